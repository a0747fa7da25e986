//! Drivers that writers share, as numbers.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::io;

use rust::{Backend, Driver, DriverOptions};

use crate::facts::give;
use crate::failure::{
    driver_of_parent, guarded, invalid, no_driver, refuse, refuse_with, wf_status,
};
use crate::options::*;
use crate::slots::{Slots, Then};
use crate::{copy_text, put, sized};
use wf_status::*;

/// A driver that writers share (`wf_driver_start`). 0 is none. Any thread may use it, several at once; a
/// number that was closed is refused for ever, and that of a writer is none of a driver.
pub type wf_driver = u64;

/// More than anybody starts: one serves thousands of files.
pub(crate) const DRIVERS: usize = 256;

/// Told from a writer's number by this bit, which no index has.
const KIND: u64 = 1 << 31;

#[cfg(not(loom))]
static STARTED: Slots<Started, DRIVERS> = Slots::new();
/// Loom's atomics are made at run time.
#[cfg(loom)]
static STARTED: std::sync::LazyLock<Slots<Started, DRIVERS>> = std::sync::LazyLock::new(Slots::new);

pub(crate) struct Started {
    driver: Driver,
    /// The process that has its thread: a child has none.
    process: u32,
}

/// How to start a driver. Set it with `wf_driver_options_init`, then change what you want to. Later
/// versions of the library add fields at the end.
#[allow(non_camel_case_types, reason = "a C name")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct wf_driver_options {
    /// Bytes in this struct, as `wf_driver_options_init` has set it: says which fields the caller
    /// knows.
    pub size: u64,
    /// The most memory that its writers may take together, in bytes (default 1 GiB): a `wf_open` that
    /// would need more is `WF_INVALID`. (`wf_options.memory_limit` is one writer's, and holds too.)
    pub memory_limit: u64,
    /// Operations that may be under way in the kernel at a time, of all writers together, 8 to 4096
    /// (default 256).
    pub depth: u64,
    /// `WF_BACKEND_...`
    pub backend: u32,
    /// `WF_DRIVE_...`: with `WF_DRIVE_CALLER` whoever waits for one of the writers does meanwhile what
    /// has come up for the others.
    pub drive: u32,
    /// As `wf_options.thread_setup`, before `wf_driver_start` returns.
    pub thread_setup: wf_thread_setup,
    /// What `thread_setup` gets. It is used on another thread, until `wf_driver_start` has returned.
    pub thread_context: *mut c_void,
}

// Without padding, or what a caller does not know could not be told from it.
const _: () = assert!(
    size_of::<wf_driver_options>()
        == size_of::<[u64; 3]>() + size_of::<[u32; 2]>() + size_of::<[*mut c_void; 2]>()
);

impl Default for wf_driver_options {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u64,
            memory_limit: 1 << 30,
            depth: 256,
            backend: WF_BACKEND_AUTO,
            drive: WF_DRIVE_THREAD,
            thread_setup: None,
            thread_context: std::ptr::null_mut(),
        }
    }
}

/// Sets every option that the caller knows to its default. `size`: `sizeof` of the caller's
/// `wf_driver_options`; nothing behind it is touched. Call it before anything else is done with one.
///
/// No wait, no allocation. Any thread. `WF_INVALID`: null, or no such size.
///
/// # Safety
/// `options` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_driver_options_init(
    options: *mut wf_driver_options,
    size: usize,
) -> wf_status {
    // SAFETY: the caller's promise.
    unsafe { sized::init(options, size) }
}

// SAFETY: numbers and pointers, the size first; without padding, see above.
unsafe impl sized::Options for wf_driver_options {
    const WRONG_SIZE: &'static str =
        "wf_driver_options.size is wrong: set it with wf_driver_options_init";
    const UNKNOWN: &'static str =
        "wf_driver_options asks for something that this version does not know";
}

impl wf_driver_options {
    /// The options of the crate; the sentence says what can't be.
    fn read(&self) -> Result<DriverOptions, wf_status> {
        let number = |value: u64| {
            usize::try_from(value)
                .map_err(|_| invalid("a number in wf_driver_options is too large"))
        };
        let backend = backend_of(self.backend)
            .ok_or_else(|| invalid("wf_driver_options.backend is none of WF_BACKEND_..."))?;
        let drive = drive_of(self.drive)
            .ok_or_else(|| invalid("wf_driver_options.drive is none of WF_DRIVE_..."))?;
        let options = DriverOptions::new()
            .backend(backend)
            .drive(drive)
            .depth(number(self.depth)?)
            .memory_limit(number(self.memory_limit)?);
        Ok(match set_up_by(self.thread_setup, self.thread_context) {
            Some(setup) => options.thread_setup(setup),
            None => options,
        })
    }
}

/// Starts a driver, and puts its number to `*driver` (0 if it was refused): it carries the bytes of any
/// number of writers with one thread and one io_uring, for who records many files at once. Writers join
/// by `wf_options.driver` and leave when they are closed, at any time; that holds up nobody else. What
/// each is promised is what it would be promised alone: a file that fails, is full or has a stalled
/// disk fails or stalls for its own writer. (But `WF_BACKEND_SYNC` does one thing at a time, for all of
/// them; and a block that a patch or an append covers in part is read by the thread itself, as is a
/// file's length set, so that a disk that hangs in the midst of that holds up all.) `options`: null for
/// the defaults.
///
/// Allocates, starts the thread that drives and waits for its `thread_setup` (but with
/// `WF_DRIVE_CALLER`); waits for no disk. Any thread. `WF_INVALID` (the sentence says which option),
/// `WF_TOO_MANY` (256 are open), `WF_IO` (the system, or `thread_setup`, has refused), `WF_PANIC`:
/// nothing was started.
///
/// # Safety
/// `options` is null or points to a `wf_driver_options` of as many bytes as its `size` says; `driver`
/// is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_driver_start(
    options: *const wf_driver_options,
    driver: *mut wf_driver,
) -> wf_status {
    guarded(|| {
        if driver.is_null() {
            return invalid("the pointer to the driver is null");
        }
        // SAFETY: the caller's promise; for a refusal, and a panic.
        unsafe { put(driver, 0) };
        // SAFETY: the caller's promise.
        match unsafe { sized::at(options) }.and_then(|asked| start(&asked)) {
            Ok(number) => {
                // SAFETY: as above.
                unsafe { put(driver, number) };
                WF_OK
            }
            Err(status) => status,
        }
    })
}

fn start(asked: &wf_driver_options) -> Result<wf_driver, wf_status> {
    let options = asked.read()?;
    let full = || refuse(WF_TOO_MANY, format!("{DRIVERS} drivers are open: close one"));
    let place = STARTED.vacant().ok_or_else(full)?;
    let driver = options.start().map_err(|error| refused(&error))?;
    Ok(place.fill(Started { driver, process: std::process::id() }) | KIND)
}

/// An EINVAL of the system, or of a set-up, is no wrong option.
fn refused(error: &io::Error) -> wf_status {
    let number = error.raw_os_error();
    let status = match error.kind() {
        io::ErrorKind::InvalidInput if number.is_none() => WF_INVALID,
        _ => WF_IO,
    };
    refuse_with(status, error.to_string(), number.unwrap_or(0))
}

/// Does something with an open driver. Nothing that waits: a close of it waits for that.
pub(crate) fn with_driver<R>(
    driver: wf_driver,
    call: impl FnOnce(&Started) -> R,
) -> Result<R, wf_status> {
    match STARTED.get(driver ^ KIND) {
        Some(started) => Ok(call(&started)),
        None => Err(no_driver()),
    }
}

/// What a writer shares.
pub(crate) fn driver_of(number: wf_driver) -> Result<Driver, wf_status> {
    with_driver(number, |started| started.driver.clone())
}

/// Gives up the number of a driver. Its writers go on, and keep it; with the last of them, or at once
/// if there is none, its thread ends. (`wf_mmio_settings` keeps the driver of its options, too.)
///
/// Waits for no disk; where no writer is left, for the thread to end. Any thread. `WF_CLOSED`;
/// `WF_FORKED`: the driver is the parent's, and its number stays; `WF_PANIC`: the number is gone.
#[unsafe(no_mangle)]
pub extern "C" fn wf_driver_close(driver: wf_driver) -> wf_status {
    guarded(|| match with_driver(driver, |started| started.process == std::process::id()) {
        // In a child the parent's threads that were inside are not there, and never leave; and where
        // it shares the memory, the number is the parent's as well.
        Ok(false) => driver_of_parent(),
        Ok(true) => match STARTED.close(driver ^ KIND, |_| ((), Then::Drop)) {
            Some(()) => WF_OK,
            None => no_driver(),
        },
        Err(status) => status,
    })
}

/// What a driver stands on, and has to do.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_driver_facts {
    /// Bytes of memory that its writers take at this moment.
    pub memory: u64,
    /// `WF_BACKEND_URING`, `WF_BACKEND_SYNC` or `WF_BACKEND_OVERLAPPED`.
    pub backend: u32,
    /// 1 if it is not the backend that `WF_BACKEND_AUTO` would have preferred (`wf_driver_fallback`).
    pub is_fallback: u32,
}

/// What a driver stands on, to a `wf_driver_facts` of `size` bytes (its sizeof).
///
/// No wait, no lock, no allocation, no system call. Any thread. `WF_INVALID` (null, a wrong size),
/// `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `facts` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_driver_get_facts(
    driver: wf_driver,
    facts: *mut wf_driver_facts,
    size: usize,
) -> wf_status {
    guarded(|| {
        let told = with_driver(driver, |started| {
            let now = || wf_driver_facts {
                memory: started.driver.memory(),
                backend: number_of(started.driver.backend()),
                is_fallback: started.driver.fallback().is_some().into(),
            };
            // SAFETY: the caller's promise.
            unsafe { give(facts, size, now) }
        });
        told.unwrap_or_else(|status| status)
    })
}

pub(crate) fn number_of(backend: Backend) -> u32 {
    match backend {
        Backend::Uring => WF_BACKEND_URING,
        Backend::Overlapped => WF_BACKEND_OVERLAPPED,
        _ => WF_BACKEND_SYNC,
    }
}

/// Why its backend is not the one that `WF_BACKEND_AUTO` would have preferred, as a sentence; empty if
/// it is. Copied to `buffer` with a zero at its end, cut to what fits; the bytes that it needs, the
/// zero included, to `*needed` (null: nobody wants it). A null `buffer` only asks for those.
///
/// No wait, no lock, no allocation. Any thread. `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `buffer` is null or points to `size` writable bytes; `needed` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_driver_fallback(
    driver: wf_driver,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> wf_status {
    guarded(|| {
        let told = with_driver(driver, |started| {
            let text = started.driver.fallback().unwrap_or_default();
            // SAFETY: the caller's promise.
            unsafe { put(needed, copy_text(text.as_bytes(), buffer, size)) };
            WF_OK
        });
        told.unwrap_or_else(|status| status)
    })
}
