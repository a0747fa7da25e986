//! What the user has typed to start this program: usage and advice name it so.

use std::path::Path;

/// `writeflush`, or what a link to it is called; `cargo perf` where cargo has started it, which in a
/// checkout an alias does.
pub(crate) fn called() -> String {
    // Set by `cargo run`, and for the tests.
    if std::env::var("CARGO_PKG_NAME").is_ok_and(|package| package == env!("CARGO_PKG_NAME")) {
        return "cargo perf".into();
    }
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() { env!("CARGO_BIN_NAME").into() } else { name }
}
