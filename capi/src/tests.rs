//! What a C program can't show, or not for certain: what is allocated, what lies behind a struct, a
//! panic, a disk that stands still, and threads that close what others use.

#[allow(dead_code)]
#[path = "../../tests/common/mounts.rs"]
mod mounts;
#[path = "../../tests/common/skip.rs"]
mod skip;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::wf_status::*;
use super::*;
use crate::producer::Producer;
use crate::slots::Then;

// ---- what the tests share -------------------------------------------------------------------------

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

#[test]
fn an_open_waits_for_the_lock_as_long_as_it_is_told() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let other = std::fs::File::create(&path).unwrap();
    other.lock().unwrap();
    assert_eq!(wf_options::default().lock_wait_ms, 1000);
    for (lock_wait_ms, waited) in [(0, "(waited 0ns)"), (30, "(waited 30ms)")] {
        let options = wf_options { lock_wait_ms, ..small() };
        let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let mut writer = 0;
        // SAFETY: live arguments.
        let status = unsafe { wf_open(name.as_ptr(), &raw const options, &raw mut writer) };
        assert_eq!((status, writer), (WF_LOCKED, 0));
        assert!(last_error().contains(waited), "{}", last_error());
    }
    other.unlock().unwrap();
    assert_eq!(close(open_at(&path, small())), (WF_OK, 0));
}

fn last_error() -> String {
    failure::last_sentence()
}

fn write(writer: wf_writer, bytes: &[u8]) -> wf_status {
    // SAFETY: live bytes.
    unsafe { wf_write(writer, bytes.as_ptr().cast(), bytes.len()) }
}

fn try_write(writer: wf_writer, bytes: &[u8]) -> wf_status {
    // SAFETY: live bytes.
    unsafe { wf_try_write(writer, bytes.as_ptr().cast(), bytes.len()) }
}

fn flush(writer: wf_writer) -> wf_status {
    // SAFETY: null is allowed.
    unsafe { wf_write_flush(writer, null(), 0, std::ptr::null_mut()) }
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
    let mut memory = std::ptr::null_mut();
    // SAFETY: a live place; the memory is ours until the commit.
    unsafe {
        match wf_grant_begin(writer, bytes.len(), &raw mut memory) {
            WF_OK => {}
            status => return status,
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len());
    }
    loop {
        match wf_grant_commit(writer, bytes.len()) {
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

// ---- what is allocated ----------------------------------------------------------------------------

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Counts what a thread that asked for it allocates and frees.
struct Counting;

fn note() {
    if COUNTING.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

// SAFETY: everything is passed on to the system's allocator; the counters are plain cells without
// destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.set(0);
    COUNTING.set(true);
    work();
    COUNTING.set(false);
    COUNT.get()
}

/// In a thread of its own, since what a thread needs for its first refusal counts too.
#[test]
fn a_deadline_thread_allocates_nothing_also_when_the_disk_has_failed() {
    let _alone = alone();
    for producers in [WF_PRODUCERS_MANY, WF_PRODUCERS_ONE] {
        watched(move || {
            let dir = tempfile::tempdir().unwrap();
            let options = wf_options { producers, ..still() };
            let writer = open_at(&dir.path().join("take"), options);
            let failed = failing(&dir.path().join("failed"), options);
            let closed = open_at(&dir.path().join("closed"), options);
            assert_eq!(close(closed).0, WF_OK);

            let said = std::thread::spawn(move || {
                let one = producers == WF_PRODUCERS_ONE;
                let mut memory: *mut c_void = std::ptr::null_mut();
                let mut facts = wf_facts::default();
                let count = allocations(|| {
                    assert_eq!(try_write(failed, &[1; 100]), WF_IO);
                    assert_eq!(write(failed, &[1; 100]), WF_IO);
                    assert_eq!(wf_error(failed), WF_IO);
                    assert_eq!(try_write(closed, &[1]), WF_CLOSED);
                    assert_eq!(try_write(writer, &[1; 4000]), WF_OK);
                    assert_eq!(wf_lose(writer, 10), WF_OK);
                    fence(writer);
                    assert_eq!(positions(writer).accepted, 4000);
                    if one {
                        assert_eq!(grant(writer, &[2; 4096]), WF_OK);
                        assert_eq!(grant(writer, &[2; 4096]), WF_FULL);
                        assert_eq!(grant(failed, &[2; 10]), WF_IO);
                        assert_eq!(wf_grant_abandon(writer), WF_INVALID);
                        assert_eq!(wf_grant_commit(writer, 1), WF_INVALID);
                    } else {
                        assert_eq!(write(writer, &[2; 4096]), WF_OK);
                    }
                    assert_eq!(try_write(writer, &[3; 100_000]), WF_TOO_LONG);
                    // SAFETY: null pointers and a live place.
                    unsafe {
                        assert_eq!(wf_try_write(writer, null(), 1), WF_INVALID);
                        assert_eq!(wf_grant_begin(writer, 1, std::ptr::null_mut()), WF_INVALID);
                        let size = size_of::<wf_facts>();
                        assert_eq!(wf_get_facts(writer, &raw mut facts, size), WF_OK);
                        let _ = wf_grant_begin(writer, 0, &raw mut memory);
                        let _ = wf_grant_abandon(writer);
                    }
                    assert_eq!(try_write(writer, &[3; 100]), WF_FULL);
                });
                assert_eq!(count, 0, "producers {producers}");
                assert!(last_error().contains("100 bytes offered"), "{}", last_error());
                assert_eq!(try_write(failed, &[1; 100]), WF_IO);
                last_error()
            });
            let said = said.join().unwrap();
            assert!(said.contains("failed") && said.contains("closed its descriptor"), "{said}");
            assert_eq!(close(failed).0, WF_IO);
            assert!(last_error().contains("closed its descriptor"), "{}", last_error());
            assert_eq!(close(writer).0, WF_OK);
        });
    }
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7u8)))), 2);
}

#[test]
fn a_sentence_outlives_its_writer_as_a_sentence() {
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let failed = failing(&dir.path().join("failed"), still());
        std::thread::spawn(move || assert_eq!(close(failed).0, WF_IO)).join().unwrap();
        assert!(last_error().contains("wf_close said why"), "{}", last_error());
    });
}

// ---- structs of another age -----------------------------------------------------------------------

/// Memory that ends with a page that nobody may touch.
struct Guarded(*mut u8);

impl Guarded {
    const PAGE: usize = 4096;

    fn new() -> Self {
        let (read, none) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_NONE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a mapping of its own.
        unsafe {
            let pages = libc::mmap(std::ptr::null_mut(), 2 * Self::PAGE, read, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(pages.byte_add(Self::PAGE), Self::PAGE, none), 0);
            Self(pages.cast())
        }
    }

    /// The last `size` bytes before the page.
    fn last<T>(&self, size: usize) -> *mut T {
        self.0.wrapping_add(Self::PAGE - size).cast()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: as mapped.
        unsafe { libc::munmap(self.0.cast(), 2 * Self::PAGE) };
    }
}

/// What a C program may do with the driver's thread.
#[test]
fn the_drivers_thread_is_set_up_by_the_program() {
    unsafe extern "C" fn setup(context: *mut c_void) -> i32 {
        // SAFETY: the test gives a counter.
        let calls = unsafe { &*context.cast::<AtomicU64>() };
        if calls.fetch_add(1, Ordering::SeqCst) == 0 { 0 } else { 1 }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let calls = AtomicU64::new(0);
    let thread_context = std::ptr::from_ref(&calls).cast_mut().cast();
    let options = wf_options { thread_setup: Some(setup), thread_context, ..small() };
    let path = dir.path().join("take");
    assert_eq!(close(open_at(&path, options)).0, WF_OK);
    let mut none = 0;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: live arguments.
    let refused = unsafe { wf_open(name.as_ptr(), &raw const options, &raw mut none) };
    assert_eq!((refused, none), (WF_IO, 0), "{}", last_error());
    let still = wf_options { thread_setup: Some(setup), thread_context, ..still() };
    assert_eq!(close(open_at(&path, still)).0, WF_OK); // there is no such thread
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// Every size that an earlier version of a struct might have had, against a guard page.
#[test]
fn nothing_behind_a_shorter_struct_is_read_or_written() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = CString::new(dir.path().join("take").as_os_str().as_encoded_bytes()).unwrap();
    let guarded = Guarded::new();
    let mut writer = 0;
    for size in (8..=size_of::<wf_options>()).step_by(8) {
        let options: *mut wf_options = guarded.last(size);
        // SAFETY: `size` bytes are there.
        unsafe {
            assert_eq!(wf_options_init(options, size), WF_OK);
            assert_eq!(options.cast::<u64>().read_unaligned(), size as u64);
            if size >= 16 {
                options.cast::<u64>().add(1).write_unaligned(8192); // buffer_size
            }
            assert_eq!(wf_open(path.as_ptr(), options, &raw mut writer), WF_OK, "{size}");
        }
        for size in (8..=size_of::<wf_positions>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            let status = unsafe { wf_get_positions(writer, guarded.last(size), size) };
            assert_eq!(status, WF_OK);
        }
        for size in (8..=size_of::<wf_stats>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            assert_eq!(unsafe { wf_get_stats(writer, guarded.last(size), size) }, WF_OK);
        }
        for size in (8..=size_of::<wf_facts>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            assert_eq!(unsafe { wf_get_facts(writer, guarded.last(size), size) }, WF_OK);
        }
        let mut stats = wf_stats::default();
        // SAFETY: a live place of this size.
        let status = unsafe { wf_get_stats(writer, &raw mut stats, size_of::<wf_stats>()) };
        assert_eq!(status, WF_OK);
        let buffers = if size >= 16 { 2 * 8192 } else { 2 << 20 };
        assert!((buffers..buffers + (1 << 20)).contains(&stats.memory), "{size}: {stats:?}");
        assert_eq!(close(writer).0, WF_OK);
    }
}

/// A later version's structs: what this one does not know is zero, and has to be.
#[test]
fn a_longer_struct_is_filled_with_zeros_and_may_ask_for_nothing_unknown() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = CString::new(dir.path().join("take").as_os_str().as_encoded_bytes()).unwrap();
    const WORDS: usize = size_of::<wf_options>() / 8 + 3;
    let mut words = [u64::MAX; WORDS];
    let size = 8 * (WORDS - 1);
    let mut writer = 0;
    // SAFETY: live memory of these sizes.
    unsafe {
        assert_eq!(wf_options_init(words.as_mut_ptr().cast(), size), WF_OK);
        assert_eq!(words[WORDS - 3..], [0, 0, u64::MAX], "the last one is not the library's");
        let open =
            |words: &[u64; WORDS], writer| wf_open(path.as_ptr(), words.as_ptr().cast(), writer);
        assert_eq!(open(&words, &raw mut writer), WF_OK);
        let mut now = [u64::MAX; 6];
        assert_eq!(wf_get_positions(writer, now.as_mut_ptr().cast(), 40), WF_OK);
        assert_eq!(now, [0, 0, 0, 0, 0, u64::MAX]);
        assert_eq!(close(writer).0, WF_OK);
        words[WORDS - 2] = 1;
        assert_eq!(open(&words, &raw mut writer), WF_INVALID);
        assert!(last_error().contains("does not know"), "{}", last_error());
        for size in [0, 7, 12, 4104, u64::MAX] {
            words[0] = size;
            assert_eq!(open(&words, &raw mut writer), WF_INVALID);
            assert_eq!(wf_options_init(words.as_mut_ptr().cast(), size as usize), WF_INVALID);
        }
    }
}

// ---- panics ---------------------------------------------------------------------------------------

/// A panic inside is a status; the writer is poisoned, and nobody waits for ever.
#[test]
fn a_panic_is_a_status_and_poisons_the_writer() {
    let _alone = alone();
    for options in [small(), still()] {
        for producers in [WF_PRODUCERS_MANY, WF_PRODUCERS_ONE] {
            let options = wf_options { producers, ..options };
            watched(move || {
                let options = options; // whole, since its pointer alone may not go
                let dir = tempfile::tempdir().unwrap();
                let writer = open_at(&dir.path().join("take"), options);
                let other = open_at(&dir.path().join("other"), options);
                assert_eq!(write(writer, b"durable"), WF_OK);
                assert_eq!(flush(writer), WF_OK);
                assert_eq!(write(writer, b", and this is not"), WF_OK);
                let panics = |open: &Open| match &open.producer {
                    Producer::Many(_) => panic!("planted"),
                    Producer::One(one) => {
                        let _inside = one.enter();
                        panic!("planted")
                    }
                };
                assert_eq!(with(writer, panics), WF_PANIC);
                assert!(last_error().contains("report"), "{}", last_error());
                assert_eq!(try_write(writer, b"x"), WF_IO);
                assert!(last_error().contains("panicked"), "{}", last_error());
                assert_eq!((wf_error(writer), flush(writer)), (WF_IO, WF_IO));
                assert_eq!(positions(writer).durable, 7, "what was true stays true");
                assert_eq!(close(writer), (WF_IO, 7));
                assert_eq!(write(writer, b"x"), WF_CLOSED);
                assert_eq!(write(other, b"x"), WF_OK, "another writer goes on");
                assert_eq!(close(other), (WF_OK, 1));
            });
        }
    }
    assert_eq!(failure::guarded(|| panic!("planted")), WF_PANIC);
}

// ---- a full table, and a fork ---------------------------------------------------------------------

#[test]
fn one_writer_too_many() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let writer = open_at(&dir.path().join("take"), still());
    // Places for the one writer over and over: as many writers would take half a gigabyte.
    let again = || {
        let first = OPEN.get(writer).unwrap();
        let Producer::Many(shared) = &first.producer else { unreachable!() };
        Open { control: first.control.clone(), producer: Producer::Many(shared.clone()) }
    };
    let numbers: Vec<_> = std::iter::from_fn(|| OPEN.insert(again()).ok()).collect();
    assert_eq!(numbers.len(), WRITERS - 1);
    let path = CString::new(dir.path().join("more").as_os_str().as_encoded_bytes()).unwrap();
    let (mut more, options) = (1, still());
    // SAFETY: live arguments.
    let status = unsafe { wf_open(path.as_ptr(), &raw const options, &raw mut more) };
    assert_eq!((status, more), (WF_TOO_MANY, 0));
    for number in numbers {
        assert!(OPEN.close(number, |_| ((), Then::Drop)).is_some());
    }
    assert_eq!(close(writer).0, WF_OK);
    let more = open_at(&dir.path().join("more"), still());
    assert_eq!(close(more).0, WF_OK);
}

/// A thread of the parent's is inside a call for ever, as the child sees it.
#[test]
fn a_forked_child_closes_without_waiting_for_its_parents_threads() {
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let writer = open_at(&dir.path().join("take"), small());
        let (inside, is_inside) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let user = std::thread::spawn(move || {
            with(writer, |_| {
                inside.send(()).unwrap();
                may_leave.recv().unwrap();
                WF_OK
            })
        });
        is_inside.recv().unwrap();
        assert_eq!(write(writer, b"par"), WF_OK); // so that a fence is something to wait for
        // SAFETY: the child calls the library, and leaves without running anything else.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(60); // a hang ends the child
                    let answers = [
                        (write(writer, b"goes nowhere"), WF_FORKED),
                        (flush(writer), WF_FORKED),
                        (write(writer, b"x"), WF_FORKED),
                        (wf_wait(writer, fence(writer), -1), WF_FORKED),
                        (close(writer).0, WF_FORKED),
                        (close(writer).0, WF_CLOSED),
                    ];
                    let wrong = answers.iter().filter(|(found, expected)| found != expected);
                    libc::_exit(wrong.count() as i32)
                }
                child => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    status
                }
            }
        };
        leave.send(()).unwrap();
        assert_eq!(user.join().unwrap(), WF_OK);
        assert!(libc::WIFEXITED(status), "the child hung: {status}");
        assert_eq!(libc::WEXITSTATUS(status), 0, "so many answers of the child were wrong");
        assert_eq!(write(writer, b"ent"), WF_OK);
        assert_eq!(close(writer), (WF_OK, 6));
    });
}

/// A child of `vfork` shares the memory: the number that it closes is its parent's.
#[cfg(target_os = "linux")]
#[test]
fn a_child_that_shares_the_memory_closes_no_number_of_its_parents() {
    extern "C" fn child(writer: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what `clone` below was given.
        let writer = unsafe { *writer.cast::<wf_writer>() };
        let answers = [close(writer).0, close(writer).0].map(|found| found == WF_FORKED);
        // SAFETY: the child leaves without running anything else of this process.
        unsafe { libc::_exit(answers.iter().filter(|right| !**right).count() as i32) }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_at(&dir.path().join("take"), small());
    assert_eq!(write(writer, b"ours"), WF_OK);
    let mut stack = vec![0u128; 1 << 14];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut status = 0;
    // SAFETY: a stack of its own, aligned, and the number outlive the child: this thread waits.
    unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        let pid = libc::clone(child, top, flags, (&raw mut writer).cast());
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    assert_eq!(close(writer), (WF_OK, 4));
}

// ---- threads that close what others use -----------------------------------------------------------

const RECORD: usize = 500;

fn record(thread: u8, number: u64) -> [u8; RECORD] {
    let mut record = [thread + 1; RECORD];
    record[1..9].copy_from_slice(&number.to_le_bytes());
    record
}

/// Every record that was taken is in the file, whole, in its thread's order; no other is.
#[track_caller]
fn assert_records(path: &Path, durable: u64, taken: &[u64]) {
    let file = std::fs::read(path).unwrap();
    assert_eq!(file.len() as u64, durable);
    let mut next = vec![0; taken.len()];
    for found in file.chunks(RECORD) {
        let thread = found[0] - 1;
        assert_eq!(found, record(thread, next[usize::from(thread)]));
        next[usize::from(thread)] += 1;
    }
    assert_eq!(next, taken);
}

#[test]
fn a_close_while_threads_push_and_wait() {
    let _alone = alone();
    for options in [small(), still(), wf_options { backend: WF_BACKEND_AUTO, ..small() }] {
        watched(move || (0..20).for_each(|round| close_amid(options, round)));
    }
}

fn close_amid(options: wf_options, round: u64) {
    const THREADS: u8 = 3;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let writer = open_at(&path, options);
    let (closed, pushed) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut durable = 0;
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let pushed = &pushed;
                scope.spawn(move || {
                    let refused = |&number: &u64| match write(writer, &record(thread, number)) {
                        WF_OK => {
                            pushed.fetch_add(1, Ordering::SeqCst);
                            false
                        }
                        status => {
                            assert_eq!(status, WF_CLOSED, "{}", last_error());
                            true
                        }
                    };
                    (0..).find(refused).unwrap_or(0)
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let mut ticket = wf_ticket::default();
                // SAFETY: a live place.
                while unsafe { wf_fence(writer, &raw mut ticket) } == WF_OK {
                    let status = wf_wait(writer, ticket, -1);
                    assert!(matches!(status, WF_OK | WF_CLOSED), "{status:?} {}", last_error());
                }
            });
        }
        // The buffers are full again and again; two threads close in the middle of it.
        while pushed.load(Ordering::SeqCst) < 20 + 7 * round {
            std::thread::yield_now();
        }
        let closers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| match close(writer) {
                    (WF_OK, durable) => {
                        closed.fetch_add(1, Ordering::SeqCst);
                        durable
                    }
                    (status, _) => {
                        assert_eq!(status, WF_CLOSED);
                        0
                    }
                })
            })
            .collect();
        durable = closers.into_iter().map(|closer| closer.join().unwrap()).max().unwrap();
        pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect()
    });
    assert_eq!(closed.into_inner(), 1, "exactly one closes it");
    assert_records(&path, durable, &taken);
}

/// A writer for one producer refuses the second instead of racing with it, and is not closed under
/// a grant.
#[test]
fn a_close_while_one_producer_fills_grants() {
    let _alone = alone();
    watched(|| {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("take");
            let writer = open_at(&path, wf_options { producers: WF_PRODUCERS_ONE, ..small() });
            let (taken, durable) = std::thread::scope(|scope| {
                let producer = scope.spawn(|| {
                    let mut number = 0;
                    loop {
                        match grant(writer, &record(0, number)) {
                            WF_OK => number += 1,
                            WF_FULL | WF_BUSY => std::thread::yield_now(),
                            WF_CLOSED => return number,
                            status => panic!("{status:?} {}", last_error()),
                        }
                    }
                });
                while positions(writer).accepted < 20_000 {
                    std::thread::yield_now();
                }
                loop {
                    match close(writer) {
                        (WF_BUSY, _) => {}
                        (status, durable) => {
                            assert_eq!(status, WF_OK, "{}", last_error());
                            return (producer.join().unwrap(), durable);
                        }
                    }
                }
            });
            assert_records(&path, durable, &[taken]);
        }
    });
}

#[test]
fn a_second_producer_is_refused_while_the_first_is_inside() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let writer = open_at(&dir.path().join("take"), wf_options { producers: 1, ..small() });
    with(writer, |open| {
        let Producer::One(one) = &open.producer else { unreachable!() };
        let _inside = one.enter();
        assert_eq!([write(writer, b"x"), try_write(writer, b"x")], [WF_BUSY; 2]);
        assert_eq!([wf_lose(writer, 1), grant(writer, b"x"), close(writer).0], [WF_BUSY; 3]);
        assert_eq!(flush(writer), WF_OK, "who only flushes is no producer");
        WF_OK
    });
    assert_eq!(grant(writer, b"now"), WF_OK);
    assert_eq!(close(writer), (WF_OK, 3));
}

// ---- a disk that stands still ---------------------------------------------------------------------

/// A file system that takes nothing until it is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        mounts::run("fsfreeze", &["-f", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        mounts::run("fsfreeze", &["-u", self.0.to_str().unwrap()]);
    }
}

/// Waits for what other threads bring about.
fn until(ready: impl Fn() -> bool) {
    while !ready() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every answer to a disk that takes nothing: pending, full, too late, lost; a close lets go of who
/// waits for room, and of who waits for a fence once the disk goes on.
#[test]
fn a_disk_that_stands_still() {
    if !mounts::may_mount("a_disk_that_stands_still") {
        return;
    }
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&at).unwrap();
        mounts::Mount::make_ext4(&image, 32);
        let mount = mounts::Mount::ext4(&image, &at);
        let path = |name: &str| at.join(name);
        let (block_for, fill) = (WF_ON_FULL_BLOCK_FOR, WF_ON_FULL_FILL);
        let blocks = open_at(&path("blocks"), small());
        let late =
            open_at(&path("late"), wf_options { on_full: block_for, block_ms: 20, ..small() });
        let fills = wf_options { on_full: fill, fill_byte: 0xEE, ..small() };
        let fills = open_at(&path("fills"), fills);
        let frozen = Frozen::new(&at);

        for writer in [blocks, late, fills] {
            while try_write(writer, &[1; 4000]) != WF_FULL {}
            let ticket = fence(writer);
            assert_eq!(wf_wait(writer, ticket, 0), WF_PENDING);
            assert_eq!(wf_wait(writer, ticket, 20), WF_PENDING);
            assert_eq!(wf_error(writer), WF_OK, "a stall is no error");
        }
        assert_eq!(write(late, &[2; 4000]), WF_DEADLINE);
        assert!(last_error().contains("20ms"), "{}", last_error());
        let before = positions(fills).accepted;
        assert_eq!(write(fills, &[2; 4000]), WF_LOST);
        assert_eq!(wf_lose(fills, 96), WF_OK);

        let started = AtomicU64::new(0);
        let start = || started.fetch_add(1, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                start();
                write(blocks, &[3; 4000])
            });
            let waiter = scope.spawn(|| {
                let ticket = fence(blocks);
                start();
                wf_wait(blocks, ticket, -1)
            });
            until(|| started.load(Ordering::SeqCst) == 2);
            let accepted = positions(blocks).accepted;
            let closer = scope.spawn(|| close(blocks));
            assert_eq!(pusher.join().unwrap(), WF_CLOSED, "while the disk still stands");
            assert!(!closer.is_finished());
            drop(frozen);
            assert!(matches!(waiter.join().unwrap(), WF_OK | WF_CLOSED));
            assert_eq!(closer.join().unwrap(), (WF_OK, accepted));
        });

        assert_eq!(flush(fills), WF_OK);
        assert_eq!(close(fills), (WF_OK, before + 4096));
        let file = std::fs::read(path("fills")).unwrap();
        assert!(file[..before as usize].iter().all(|&byte| byte == 1));
        assert!(file[before as usize..].iter().all(|&byte| byte == 0xEE), "filled in their place");
        assert_eq!(write(late, &[2; 4000]), WF_OK);
        assert_eq!(close(late).0, WF_OK);
        drop(mount);
    });
}

// ---- a full disk ----------------------------------------------------------------------------------

/// What the other file leaves of the disk.
const ROOM: i64 = 1 << 20;

/// The body with every backend and drive, on a small disk of its own, which another file has filled
/// up but for [`ROOM`].
fn on_a_full_disk(test: &str, body: fn(take: &Path, fill: &Path, wf_options)) {
    if !mounts::may_mount(test) {
        return;
    }
    let _alone = alone();
    watched(move || {
        let dir = tempfile::tempdir().unwrap();
        let mount = mounts::Mount::tmpfs(dir.path(), "size=8m");
        for backend in [WF_BACKEND_AUTO, WF_BACKEND_SYNC] {
            for drive in [WF_DRIVE_THREAD, WF_DRIVE_CALLER, WF_DRIVE_POLL] {
                let (buffer_size, buffers) = (64 << 10, 4);
                let options = wf_options { buffer_size, buffers, backend, drive, ..small() };
                let take = dir.path().join("take");
                let fill = mounts::fill_up(dir.path(), ROOM);
                body(&take, &fill, options);
                let _ = std::fs::remove_file(&fill);
                std::fs::remove_file(&take).unwrap();
            }
        }
        drop(mount);
    });
}

/// A number that no other place of the file has; the first one is the header's.
fn piece(place: u64) -> [u8; 3000] {
    let mut bytes = [0; 3000];
    for (word, number) in bytes.chunks_mut(8).zip(place + 1..) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn expected(len: u64) -> Vec<u8> {
    (0..=len / 3000).flat_map(|number| piece(number * 3000)).take(len as usize).collect()
}

fn is_waiting(writer: wf_writer) -> bool {
    let mut is_waiting = 7;
    // SAFETY: a live place.
    assert_eq!(unsafe { wf_is_waiting_for_space(writer, &raw mut is_waiting) }, WF_OK);
    is_waiting == 1
}

/// A checkpoint at the start of the file: its status.
fn checkpoint(writer: wf_writer) -> wf_status {
    unsafe extern "C" fn describe(_: *mut c_void, durable: u64, header: *mut c_void) {
        // SAFETY: there are eight bytes.
        unsafe { header.cast::<u64>().write_unaligned(durable) };
    }
    let nothing = std::ptr::null_mut();
    // SAFETY: null is allowed.
    unsafe { wf_checkpoint(writer, 0, 8, Some(describe), nothing, std::ptr::null_mut()) }
}

fn close_summary(writer: wf_writer) -> (wf_status, wf_summary) {
    let mut told = wf_summary::default();
    // SAFETY: a live place of this size.
    let status = unsafe { wf_close_summary(writer, &raw mut told, size_of::<wf_summary>()) };
    (status, told)
}

/// The file ends behind what was written, and its header describes what is durable.
#[track_caller]
fn assert_failed_whole(take: &Path, (status, told): (wf_status, wf_summary)) {
    assert_eq!(status, WF_IO);
    assert!(last_error().contains("os error 28"), "{}", last_error());
    assert!(told.durable >= 256 << 10 && told.durable <= told.written, "{told:?}");
    assert!(told.accepted > told.written, "{told:?}");
    assert_eq!(told.file_len, told.written);
    let file = std::fs::read(take).unwrap();
    assert_eq!(file.len() as u64, told.file_len);
    assert_eq!(file[..8], told.durable.to_ne_bytes());
    assert!(file[8..] == expected(told.file_len)[8..]);
}

#[test]
fn a_full_disk_leaves_a_durable_prefix_and_a_true_header() {
    on_a_full_disk("a_full_disk_leaves_a_durable_prefix_and_a_true_header", |take, _, options| {
        let writer = open_at(take, options);
        let mut at = 0;
        let refused = loop {
            match write(writer, &piece(at)) {
                WF_OK => at += 3000,
                status => break status,
            }
            assert!(at < 64 << 20, "never full");
        };
        assert_eq!((refused, wf_error(writer)), (WF_IO, WF_IO));
        assert_eq!((checkpoint(writer), flush(writer)), (WF_IO, WF_IO));
        assert!(!is_waiting(writer));
        assert_failed_whole(take, close_summary(writer));
    });
}

#[test]
fn who_waits_for_space_loses_nothing() {
    on_a_full_disk("who_waits_for_space_loses_nothing", |take, fill, options| {
        let on_disk_full = WF_ON_DISK_FULL_WAIT;
        let writer = open_at(take, wf_options { on_disk_full, ..options });
        let mut at = 0;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                until(|| is_waiting(writer) || wf_error(writer) != WF_OK);
                std::fs::remove_file(fill).unwrap();
            });
            while !other.is_finished() {
                assert_eq!(write(writer, &piece(at)), WF_OK, "{}", last_error());
                at += 3000;
            }
        });
        assert_eq!(flush(writer), WF_OK, "{}", last_error());
        assert!(!is_waiting(writer));
        let (status, told) = close_summary(writer);
        assert_eq!((status, told.accepted, told.durable, told.file_len), (WF_OK, at, at, at));
        assert!(std::fs::read(take).unwrap() == expected(at));
    });
}

/// The disk stays full, and the recorder has to end.
#[test]
fn who_stops_waiting_for_space_hears_of_it_and_leaves_a_true_header() {
    on_a_full_disk(
        "who_stops_waiting_for_space_hears_of_it_and_leaves_a_true_header",
        |take, _, options| {
            let (on_disk_full, on_full) = (WF_ON_DISK_FULL_WAIT, WF_ON_FULL_FAIL);
            let writer = open_at(take, wf_options { on_disk_full, on_full, ..options });
            let mut at = 0;
            let ticket = loop {
                while write(writer, &piece(at)) == WF_OK {
                    at += 3000;
                }
                let ticket = fence(writer);
                if wf_wait(writer, ticket, 20) == WF_PENDING && is_waiting(writer) {
                    break ticket;
                }
                assert_eq!(wf_error(writer), WF_OK, "to wait is no error");
            };
            assert_eq!(wf_stop_waiting_for_space(writer), WF_OK);
            assert_eq!((wf_wait(writer, ticket, -1), checkpoint(writer)), (WF_IO, WF_IO));
            assert_failed_whole(take, close_summary(writer));
        },
    );
}
