//! Windows: overlapped I/O on a handle opened for write-through, completions from a port.
//!
//! Write-through alone is no fence here: it asks the drive for FUA, which many ignore. A fence is a
//! flush after all completions, made by a helper thread, since Windows has no overlapped flush.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE, INVALID_HANDLE_VALUE,
    NTSTATUS, RtlNtStatusToDosError, STATUS_INVALID_PARAMETER, STATUS_NOT_IMPLEMENTED,
    STATUS_NOT_SUPPORTED, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_NO_BUFFERING, FILE_FLAG_OVERLAPPED, FILE_FLAG_WRITE_THROUGH, FILE_SHARE_DELETE,
    FILE_SHARE_READ, FILE_SHARE_WRITE, ReOpenFile, WriteFile,
};
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Threading::INFINITE;

use super::{Abilities, Backend, Completion, FileId, Io, Op, Token, Wake};
use crate::buffers::Region;
use crate::canary::Canary;
use crate::file::{Handle, OsFile, os_file};
use crate::options::FenceForm;

/// Completion keys: what a packet from the port is about.
const WRITE: usize = 1;
const FLUSH: usize = 2;
const BELL: usize = 3;

pub(crate) struct OverlappedBackend {
    port: Arc<Port>,
    files: Vec<Attached>,
    /// One for each write that can be under way; the kernel holds their addresses.
    writes: Box<[Write]>,
    free: Vec<usize>,
    ready: VecDeque<Completion>,
    /// Flushes under way.
    flushes: usize,
    flusher: Option<Flusher>,
    /// A completed write-through write is taken for durable: asked for by name.
    trusts_the_drive: bool,
}

struct Attached {
    file: Arc<OsFile>,
    writes: OwnedHandle,
    /// Writes have to be aligned to this.
    block: u64,
}

#[repr(C)]
struct Write {
    /// First, so that the address of the one is the address of the other.
    overlapped: OVERLAPPED,
    index: usize,
    token: Token,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    UnderWay,
    /// It failed at once, and was answered. Windows sends no packet then, Wine does: until one
    /// comes the place is not used again. (A failed write ends the stream.)
    Refused,
}

// SAFETY: the raw pointers in OVERLAPPED are null, or the kernel's.
unsafe impl Send for OverlappedBackend {}

impl std::fmt::Debug for OverlappedBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OverlappedBackend")
            .field("writes", &(self.writes.len() - self.free.len()))
            .field("flushes", &self.flushes)
            .finish_non_exhaustive()
    }
}

impl OverlappedBackend {
    pub(crate) fn new(depth: usize, form: FenceForm) -> io::Result<Self> {
        // SAFETY: makes a new port; the result is checked.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, null_mut(), 0, 0) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a handle that was just made and belongs to nobody else.
        let port = Arc::new(Port(unsafe { OwnedHandle::from_raw_handle(port) }));
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        let idle = || unsafe { std::mem::zeroed() };
        let write = |index| Write { overlapped: idle(), index, token: 0, state: State::Idle };
        Ok(Self {
            flusher: Some(Flusher::start(port.clone())?),
            port,
            files: Vec::with_capacity(1),
            writes: (0..depth).map(write).collect(),
            free: (0..depth).rev().collect(),
            ready: VecDeque::with_capacity(depth),
            flushes: 0,
            trusts_the_drive: form == FenceForm::WriteThrough,
        })
    }

    fn start_write(&mut self, file: FileId, token: Token, at: u64, region: Region) {
        let attached = &self.files[file.0 as usize];
        let block = attached.block;
        // Wine takes anything; Windows would refuse it, with an error that says less.
        let is_aligned = [at, region.len as u64, region.address as u64]
            .iter()
            .all(|number| number.is_multiple_of(block));
        if !is_aligned {
            let text = format!("a write of {} bytes at {at} is not aligned to {block}", region.len);
            let result = Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            return self.ready.push_back(Completion { token, result });
        }
        let index = self.free.pop().expect("room() was asked before");
        let write = &mut self.writes[index];
        write.token = token;
        write.state = State::UnderWay;
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        write.overlapped = unsafe { std::mem::zeroed() };
        write.overlapped.Anonymous.Anonymous.Offset = at as u32;
        write.overlapped.Anonymous.Anonymous.OffsetHigh = (at >> 32) as u32;
        let handle = attached.writes.as_raw_handle();
        let (bytes, len) = (region.address.cast_const(), region.len as u32);
        // SAFETY: the driver keeps region and file until the completion; the OVERLAPPED lies in a
        // box that is kept until every write has completed.
        let started =
            unsafe { WriteFile(handle, bytes, len, null_mut(), &raw mut write.overlapped) };
        // Done at once or later: a packet comes in both cases.
        if started == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                write.state = State::Refused;
                self.ready.push_back(Completion { token, result: Err(error) });
            }
        }
    }

    /// Takes a packet from the port, if one comes within the time; what it says is in `ready`.
    fn take_packet(&mut self, milliseconds: u32) -> io::Result<bool> {
        let (mut bytes, mut key, mut overlapped) = (0u32, 0usize, null_mut::<OVERLAPPED>());
        // SAFETY: three live places for the results.
        let taken = unsafe {
            GetQueuedCompletionStatus(
                self.port.0.as_raw_handle(),
                &raw mut bytes,
                &raw mut key,
                &raw mut overlapped,
                milliseconds,
            )
        };
        if taken == 0 && overlapped.is_null() {
            // SAFETY: asks the thread's last error.
            return match unsafe { GetLastError() } {
                WAIT_TIMEOUT => Ok(false),
                code => Err(io::Error::from_raw_os_error(code as i32)),
            };
        }
        match key {
            WRITE => {
                let result = match taken {
                    0 => Err(io::Error::last_os_error()),
                    _ => Ok(bytes as usize),
                };
                // SAFETY: the OVERLAPPED of a write of ours, first in its `Write`.
                let index = unsafe { (*overlapped.cast::<Write>()).index };
                let write = &mut self.writes[index];
                if std::mem::replace(&mut write.state, State::Idle) == State::UnderWay {
                    self.ready.push_back(Completion { token: write.token, result });
                }
                self.free.push(index);
            }
            FLUSH => {
                // A flush that the helper made: the token travels as a pointer, the error as bytes.
                self.flushes -= 1;
                let result = match bytes {
                    0 => Ok(0),
                    code => Err(io::Error::from_raw_os_error(code as i32)),
                };
                self.ready.push_back(Completion { token: overlapped as u64 - 1, result });
            }
            _ => {} // the bell: whoever waits looks around
        }
        Ok(true)
    }

    fn in_flight(&self) -> bool {
        self.flushes > 0 || self.writes.iter().any(|write| write.state == State::UnderWay)
    }
}

impl Io for OverlappedBackend {
    fn kind(&self) -> Backend {
        Backend::Overlapped
    }

    fn abilities(&self) -> Abilities {
        Abilities { blocking: false, dsync: false, link: false }
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, _memory: &[Region]) -> io::Result<FileId> {
        let file = os_file(&**file)?;
        let block = file.direct_block();
        let direct = if block > 1 { FILE_FLAG_NO_BUFFERING } else { 0 };
        // SAFETY: a live handle; the result is checked. The same file again, whatever its name is
        // by now.
        let writes = unsafe {
            ReOpenFile(
                file.as_raw_handle(),
                GENERIC_READ | GENERIC_WRITE,
                FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                FILE_FLAG_OVERLAPPED | FILE_FLAG_WRITE_THROUGH | direct,
            )
        };
        if writes == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a handle that was just made and belongs to nobody else.
        let writes = unsafe { OwnedHandle::from_raw_handle(writes) };
        // SAFETY: two live handles.
        let bound = unsafe {
            let port = self.port.0.as_raw_handle();
            CreateIoCompletionPort(writes.as_raw_handle(), port, WRITE, 0)
        };
        if bound.is_null() {
            return Err(io::Error::last_os_error());
        }
        self.files.push(Attached { file, writes, block });
        Ok(FileId(self.files.len() as u32 - 1))
    }

    fn room(&mut self) -> usize {
        (self.free.len()).saturating_sub(self.flushes + self.ready.len())
    }

    fn submit(&mut self, file: FileId, token: Token, op: Op) {
        match op {
            Op::Write { at, region, .. } => self.start_write(file, token, at, region),
            Op::Flush if self.trusts_the_drive || Canary::NoFlush.is_planted() => {
                self.ready.push_back(Completion { token, result: Ok(0) });
            }
            Op::Flush => {
                self.flushes += 1;
                let file = self.files[file.0 as usize].file.clone();
                let asked = self.flusher.as_ref().map(|flusher| flusher.ask(file, token));
                if asked != Some(true) {
                    self.flushes -= 1;
                    let result = Err(io::Error::other("the thread that flushes has ended"));
                    self.ready.push_back(Completion { token, result });
                }
            }
        }
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(()) // every write was handed over when it was submitted
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if !self.ready.is_empty() {
            return Ok(());
        }
        let milliseconds = deadline.map_or(INFINITE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: a wait that ends too early would only begin again.
            u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(INFINITE - 1)
        });
        self.take_packet(milliseconds).map(drop)
    }

    fn reap(&mut self) -> Option<Completion> {
        while self.ready.is_empty() {
            match self.take_packet(0) {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        self.ready.pop_front()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.port.clone()
    }

    fn read(&mut self, file: FileId, at: u64, region: Region) -> io::Result<usize> {
        super::sync::read_full(&self.files[file.0 as usize].file, at, region)
    }
}

impl Drop for OverlappedBackend {
    /// Waits for every operation: the kernel must not write from freed memory.
    fn drop(&mut self) {
        while self.in_flight() {
            if self.take_packet(INFINITE).is_err() {
                // The port is broken; leaking what the kernel may write to is the safe way out.
                std::mem::forget(std::mem::take(&mut self.writes));
                break;
            }
        }
        drop(self.flusher.take());
    }
}

/// The completion port, which is the doorbell too.
#[derive(Debug)]
struct Port(OwnedHandle);

impl Port {
    fn post(&self, bytes: u32, key: usize, pointer: usize) {
        // SAFETY: a live port; the pointer is a number to it. It fails for want of memory only, and
        // then there is nothing left to do.
        unsafe {
            PostQueuedCompletionStatus(
                self.0.as_raw_handle(),
                bytes,
                key,
                pointer as *const OVERLAPPED,
            );
        }
    }
}

impl Wake for Port {
    fn wake(&self) {
        self.post(0, BELL, 1);
    }
}

/// The thread that flushes, so that writes go on meanwhile.
struct Flusher {
    orders: Option<Sender<(Arc<OsFile>, Token)>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    fn start(port: Arc<Port>) -> io::Result<Self> {
        let (orders, taken) = channel();
        let thread = std::thread::Builder::new()
            .name("writeflush-flush".into())
            .spawn(move || flush_for(&port, &taken))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Whether the thread will do it.
    fn ask(&self, file: Arc<OsFile>, token: Token) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send((file, token)).is_ok())
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn flush_for(port: &Port, orders: &Receiver<(Arc<OsFile>, Token)>) {
    let call = DataSync::find();
    while let Ok((file, token)) = orders.recv() {
        let result = call.flush(&file);
        // Before the answer: whoever has it may close the file.
        drop(file);
        let code = match result {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(1).max(1) as u32,
        };
        // Not null, which would say that nothing was there.
        port.post(code, FLUSH, token as usize + 1);
    }
}

/// `NtFlushBuffersFileEx`: data, and a flush of the drive, without the times in the file's record
/// (Windows 8 and later; Wine 8.0 has none).
type FlushEx = unsafe extern "system" fn(HANDLE, u32, *const u8, u32, *mut [usize; 2]) -> NTSTATUS;

#[derive(Clone, Copy)]
struct DataSync(Option<FlushEx>);

impl DataSync {
    fn find() -> Self {
        // SAFETY: two constant names. The type is the documented one of this function.
        unsafe {
            let library = GetModuleHandleA(c"ntdll.dll".as_ptr().cast());
            if library.is_null() {
                return Self(None);
            }
            let function = GetProcAddress(library, c"NtFlushBuffersFileEx".as_ptr().cast());
            Self(
                function.map(|it| {
                    std::mem::transmute::<unsafe extern "system" fn() -> isize, FlushEx>(it)
                }),
            )
        }
    }

    fn flush(self, file: &OsFile) -> io::Result<()> {
        const DATA_SYNC_ONLY: u32 = 4;
        let Some(call) = self.0 else { return file.sync_data() };
        let mut status_block = [0usize; 2];
        // SAFETY: a live handle, opened for synchronous I/O, so that nothing is pending afterwards;
        // a live IO_STATUS_BLOCK.
        let status = unsafe {
            call(file.as_raw_handle(), DATA_SYNC_ONLY, std::ptr::null(), 0, &raw mut status_block)
        };
        match status {
            0.. => Ok(()),
            // It was not tried: the file system knows no such flush.
            STATUS_NOT_SUPPORTED | STATUS_NOT_IMPLEMENTED | STATUS_INVALID_PARAMETER => {
                file.sync_data()
            }
            // SAFETY: a pure function.
            _ => Err(io::Error::from_raw_os_error(unsafe { RtlNtStatusToDosError(status) } as i32)),
        }
    }
}
