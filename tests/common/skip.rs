//! Tests that can't run here.

use std::io::Write;

/// Says loudly that a test can't run here; where the environment sets `CI`, that is a failure.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test} must not be skipped in CI: {reason}");
    // Not `eprintln!`, which the test harness keeps to itself where a test passes.
    let text = format!("SKIPPED: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}
