//! The ratios that the README states, each measured against its floor in one interleaved run.
//!
//! `cargo bench --bench claims` runs all of them; a name after `--` runs one, and `--json FILE` keeps
//! the rows under the names by which the README quotes them. Nothing here
//! asserts: a table goes to standard output, with every bar beside its figure.

#[cfg(target_os = "linux")]
mod claims_linux;

#[cfg(target_os = "linux")]
fn main() {
    claims_linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("claims: the hand-written floors exist on Linux only");
}
