//! Notes which compiler built the tool: a measurement says so.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=WRITEFLUSH_RUSTC={}", version.unwrap_or_default().trim());
    println!("cargo::rerun-if-changed=build.rs");
}
