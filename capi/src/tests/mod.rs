//! What a C program can't show, or not for certain: what is allocated, what lies behind a struct, a
//! panic, a disk that stands still, threads that close what others use, and how long a driver lives.

#[path = "../../../tests/common/allocations.rs"]
mod count;
#[allow(dead_code)]
#[path = "../../../tests/common/mounts.rs"]
mod mounts;
#[path = "../../../tests/common/skip.rs"]
mod skip;

mod ages;
mod allocations;
mod closes;
mod drivers;
mod full_disk;
mod opens;
mod panics;
mod standstill;
mod table;

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::wf_status::*;
use super::*;
use crate::producer::Producer;
use crate::slots::Then;

/// One at a time: the table of writers is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Far longer than any test takes: past it, something hangs.
fn watched(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    if ended.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
        std::process::abort();
    }
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

// SAFETY: plain numbers, and a context that is null or a counter.
unsafe impl Send for wf_options {}

/// Two buffers of 4 KiB, through the page cache, with plain calls.
fn small() -> wf_options {
    wf_options {
        buffer_size: 4096,
        backend: WF_BACKEND_SYNC,
        direct: WF_DIRECT_OFF,
        ..wf_options::default()
    }
}

/// The same, where nothing moves unless a call waits.
fn still() -> wf_options {
    wf_options { drive: WF_DRIVE_CALLER, ..small() }
}

#[track_caller]
fn open_at(path: &Path, options: wf_options) -> wf_writer {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let mut writer = 0;
    // SAFETY: live arguments.
    let status = unsafe { wf_open(path.as_ptr(), &raw const options, &raw mut writer) };
    assert_eq!(status, WF_OK, "{}", last_error());
    writer
}

fn last_error() -> String {
    failure::last_sentence()
}

fn write(writer: wf_writer, bytes: &[u8]) -> wf_status {
    // SAFETY: live bytes.
    unsafe { wf_write(writer, bytes.as_ptr().cast(), bytes.len(), null_mut()) }
}

fn try_write(writer: wf_writer, bytes: &[u8]) -> wf_status {
    // SAFETY: live bytes.
    unsafe { wf_try_write(writer, bytes.as_ptr().cast(), bytes.len(), null_mut()) }
}

fn flush(writer: wf_writer) -> wf_status {
    // SAFETY: null is allowed.
    unsafe { wf_write_flush(writer, null(), 0, null_mut()) }
}

fn fence(writer: wf_writer) -> wf_ticket {
    let mut ticket = wf_ticket::default();
    // SAFETY: a live place.
    assert_eq!(unsafe { wf_fence(writer, &raw mut ticket) }, WF_OK);
    ticket
}

fn close(writer: wf_writer) -> (wf_status, u64) {
    let mut durable = 0;
    // SAFETY: a live place.
    let status = unsafe { wf_close(writer, &raw mut durable) };
    (status, durable)
}

fn positions(writer: wf_writer) -> wf_positions {
    let mut now = wf_positions::default();
    // SAFETY: a live place of this size.
    let status = unsafe { wf_get_positions(writer, &raw mut now, size_of::<wf_positions>()) };
    assert_eq!(status, WF_OK);
    now
}

/// A grant, filled and committed.
fn grant(writer: wf_writer, bytes: &[u8]) -> wf_status {
    let mut memory = null_mut();
    // SAFETY: a live place; the memory is ours until the commit.
    unsafe {
        match wf_grant_begin(writer, bytes.len(), &raw mut memory) {
            WF_OK => {}
            status => return status,
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len());
    }
    loop {
        // SAFETY: null is allowed.
        match unsafe { wf_grant_commit(writer, bytes.len(), null_mut()) } {
            WF_BUSY => std::hint::spin_loop(), // a close is being refused
            status => return status,
        }
    }
}

/// A writer that has failed: another file has the place of its own.
fn failing(path: &Path, options: wf_options) -> wf_writer {
    let writer = open_at(path, wf_options { fence: WF_FENCE_FLUSH, ..options });
    let path = path.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut ours = all.filter(|entry| std::fs::read_link(entry).is_ok_and(|to| to == path));
    let ours: i32 = ours.next().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // SAFETY: two open descriptors.
    assert_eq!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&full), ours) }, ours);
    assert_eq!(try_write(writer, &[1; 100]), WF_OK);
    assert_eq!(flush(writer), WF_IO);
    writer
}

/// Waits for what other threads bring about.
fn until(ready: impl Fn() -> bool) {
    while !ready() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
