//! Cuts the power of a real file system at every moment of a recording, and looks what is left.
//!
//! ```text
//!   work ──▶ writeflush ──▶ ext4, xfs, btrfs ──▶ loop ──▶ FUSE ──▶ server: a log of every request
//!                                                                    │
//!   judge ◀── mounted again ◀── images as a cut may leave them ◀── replay
//! ```
//!
//! `TESTING.md` says what it proves and what it does not. Linux and root only.

#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod blklog;
#[cfg(target_os = "linux")]
mod canaries;
#[cfg(target_os = "linux")]
mod claims;
#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod coverage;
#[cfg(target_os = "linux")]
mod cuts;
#[cfg(target_os = "linux")]
mod devices;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod judge;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod loopdev;
#[cfg(target_os = "linux")]
mod matrix;
#[cfg(target_os = "linux")]
mod medium;
#[cfg(target_os = "linux")]
mod messages;
#[cfg(target_os = "linux")]
mod opening;
#[cfg(target_os = "linux")]
mod recording;
#[cfg(target_os = "linux")]
mod replay;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod scenario;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod space;
#[cfg(target_os = "linux")]
mod table;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("power cuts are replayed on Linux only");
}
