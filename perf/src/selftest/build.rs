//! The programs that are compared: the operations of writeflush with the hook for regressions,
//! and the same linked in another order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Bad;

const PACKAGE: &str = "writeflush-operations";
/// Another order of functions: of lld, which rustc takes on x86-64 Linux, and of GNU ld.
const ORDERS: [&str; 2] =
    ["link-arg=-Wl,--shuffle-sections=.text*=7", "link-arg=-Wl,--sort-section=name"];

/// Copies that no later build takes away.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) plain: PathBuf,
    pub(crate) relinked: PathBuf,
}

pub(crate) fn build(folder: &Path) -> Result<Built, Bad> {
    // The plain one last: it is what lies in the target folder afterwards.
    let relinked = ORDERS.iter().find_map(|order| program(&["-C", order]).ok());
    let relinked = relinked
        .ok_or_else(|| Bad::new(format!("{PACKAGE} can't be linked in another order here")))
        .and_then(|program| copy(&program, &folder.join("relinked")))?;
    let plain = copy(&program(&[])?, &folder.join("plain"))?;
    Ok(Built { plain, relinked })
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<PathBuf, Bad> {
    std::fs::copy(from, to).map_err(|error| {
        let shown = from.display();
        Bad::new(format!("{shown} can't be copied ({error}): name a program that was built"))
    })?;
    Ok(to.to_owned())
}

/// A line of `cargo --message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

fn program(flags: &[&str]) -> Result<PathBuf, Bad> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("operations/Cargo.toml");
    if !manifest.exists() {
        return Err(Bad::new(format!(
            "there is no {} any more: run 'writeflush selftest' where it was built, or give \
             --program",
            manifest.display()
        )));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["rustc", "--quiet", "--release", "--features", "inject"]);
    command.args(["--message-format=json", "--manifest-path"]).arg(manifest).arg("--").args(flags);
    let output = command.stderr(Stdio::null()).output();
    let output = output.map_err(|error| Bad::new(format!("cargo can't be run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let built = messages.filter(|message| message.reason == "compiler-artifact");
    match built.filter_map(|message| message.executable).next_back() {
        Some(program) if output.status.success() => Ok(program),
        _ => Err(Bad::new(format!(
            "{PACKAGE} can't be built: run 'cargo build --release -p {PACKAGE} --features inject'"
        ))),
    }
}
