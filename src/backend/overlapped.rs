//! Windows: overlapped I/O on a handle opened for write-through, completions from a port.
//!
//! Write-through alone is no fence here: it asks the drive for FUA, which many ignore. A fence is a
//! flush after all completions, made by a helper thread, since Windows has no overlapped flush.
//!
//! NTFS makes a write past the valid data length of a file a synchronous one, whatever the handle was
//! opened for, and a recording that grows consists of such writes: then it is the thread that drives
//! which waits. With `Drive::Caller` that is whoever fills a buffer. Setting the length ahead does not
//! help; a file that was written before (`Options::open`) does.
//!
//! **Never run on a real Windows machine**: under Wine only, which ignores write-through, takes
//! misaligned writes, and has no data-sync flush.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_NOT_FOUND, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE,
    INVALID_HANDLE_VALUE, NTSTATUS, RtlNtStatusToDosError, STATUS_INVALID_PARAMETER,
    STATUS_NOT_IMPLEMENTED, STATUS_NOT_SUPPORTED, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_NO_BUFFERING, FILE_FLAG_OVERLAPPED, FILE_FLAG_WRITE_THROUGH, FILE_SHARE_DELETE,
    FILE_SHARE_READ, FILE_SHARE_WRITE, ReOpenFile, WriteFile,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

use super::{Abilities, Backend, Completion, FileId, Inline, Io, Op, Places, Token, Wake};
use crate::buffers::Region;
use crate::canary::Canary;
use crate::file::{Handle, OsFile, os_file};
use crate::options::FenceForm;
use crate::sync::ignore_poison;

/// Completion keys: what a packet from the port is about.
const WRITE: usize = 1;
const BELL: usize = 2;

/// Milliseconds after which whoever waits looks around by himself: Windows may have had no memory for
/// the packet of a bell, and what it announced must not wait for ever.
const LONGEST_WAIT: u32 = 1000;

pub(crate) struct OverlappedBackend {
    port: Arc<Port>,
    files: Places<Attached>,
    /// One for each write that can be under way, and for each the kernel's part of it.
    writes: Box<[Write]>,
    slots: Slots,
    free: Vec<usize>,
    ready: VecDeque<Completion>,
    /// Flushes under way.
    flushes: usize,
    data_sync: DataSync,
    has_flushed: bool,
    flusher: Flusher,
    /// A completed write-through write is taken for durable: asked for by name.
    trusts_the_drive: bool,
}

struct Attached {
    file: Arc<OsFile>,
    /// A second handle, for overlapped I/O.
    writes: Arc<OwnedHandle>,
    /// Writes have to be aligned to this.
    block: u64,
}

struct Write {
    token: Token,
    state: State,
}

/// What the kernel may write to at any time while an operation is under way: memory that nothing
/// refers to, reached by address only.
struct Slots(NonNull<[Slot]>);

#[repr(C)]
struct Slot {
    /// First, so that the address of the one is the address of the other.
    overlapped: OVERLAPPED,
    index: usize,
}

impl Slots {
    fn new(count: usize) -> Self {
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        let slot = |index| Slot { overlapped: unsafe { std::mem::zeroed() }, index };
        Self(NonNull::from(Box::leak((0..count).map(slot).collect())))
    }

    fn at(&self, index: usize) -> *mut Slot {
        assert!(index < self.0.len());
        // SAFETY: within the allocation.
        unsafe { self.0.cast::<Slot>().as_ptr().add(index) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: leaked from a box by `new`; the kernel has nothing under way any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    UnderWay,
    /// It failed at once, and was answered. Windows sends no packet then, Wine does: until one
    /// comes the place is not used again. (A failed write ends the stream.)
    Refused,
}

// SAFETY: plain memory that belongs to its backend, on whatever thread that is.
unsafe impl Send for Slots {}

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
        let port = Arc::new(Port::new(unsafe { OwnedHandle::from_raw_handle(port) }, depth));
        Ok(Self {
            data_sync: DataSync::find(),
            has_flushed: false,
            flusher: Flusher::default(),
            port,
            files: Places::default(),
            writes: (0..depth).map(|_| Write { token: 0, state: State::Idle }).collect(),
            slots: Slots::new(depth),
            free: (0..depth).rev().collect(),
            ready: VecDeque::with_capacity(depth),
            flushes: 0,
            trusts_the_drive: form == FenceForm::WriteThrough,
        })
    }

    fn start_write(&mut self, file: FileId, token: Token, at: u64, region: Region) {
        let attached = self.files.of(file);
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
        self.writes[index] = Write { token, state: State::UnderWay };
        let overlapped = self.slots.at(index).cast::<OVERLAPPED>();
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        let mut place: OVERLAPPED = unsafe { std::mem::zeroed() };
        place.Anonymous.Anonymous.Offset = at as u32;
        place.Anonymous.Anonymous.OffsetHigh = (at >> 32) as u32;
        let handle = attached.writes.as_raw_handle();
        let (bytes, len) = (region.address.cast_const(), region.len as u32);
        self.port.under_way.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the slot is free, so the kernel has nothing under way there. The driver keeps region
        // and file until the completion; the slots are kept until every write has completed.
        let started = unsafe {
            overlapped.write(place);
            WriteFile(handle, bytes, len, null_mut(), overlapped)
        };
        // Done at once or later: a packet comes in both cases.
        if started == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                self.port.under_way.fetch_sub(1, Ordering::Relaxed);
                self.writes[index].state = State::Refused;
                self.ready.push_back(Completion { token, result: Err(error) });
            }
        }
    }

    /// Takes a packet from the port, if one comes within the time; what it says is in `ready`.
    fn take_packet(&mut self, milliseconds: u32) -> io::Result<bool> {
        let Some(packet) = self.port.take(milliseconds)? else { return Ok(false) };
        if packet.key == WRITE {
            // SAFETY: the OVERLAPPED of a write of ours, first in its slot; the kernel is done with it.
            let index = unsafe { (&raw const (*packet.overlapped.cast::<Slot>()).index).read() };
            let write = &mut self.writes[index];
            if std::mem::replace(&mut write.state, State::Idle) == State::UnderWay {
                self.port.under_way.fetch_sub(1, Ordering::Relaxed);
                self.ready.push_back(Completion { token: write.token, result: packet.result });
            }
            self.free.push(index);
        } // else the bell: whoever waits looks around
        Ok(true)
    }

    /// Takes what the helper has flushed.
    fn take_flushes(&mut self) {
        if self.flushes > 0 {
            let mut flushed = ignore_poison(self.port.flushed.lock());
            self.flushes -= flushed.len();
            self.ready.extend(flushed.drain(..));
        }
    }

    /// The first flush has no thread yet: where nothing has to go on beside it, it is carried out at
    /// once. Most recordings through MMIO have no other, and a thread costs as much as all of a close.
    fn may_flush_here(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.has_flushed, true);
        is_first && self.files.count() == 1 && !self.in_flight()
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
        Abilities { blocking: false, dsync: false, link: false, cancels: false }
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, _memory: &[Region]) -> io::Result<FileId> {
        let file = os_file(&**file)?;
        let block = file.direct_block();
        let direct = if block > 1 { FILE_FLAG_NO_BUFFERING } else { 0 };
        // SAFETY: a live handle; the result is checked. The same file again, whatever its name is
        // by now.
        let writes = unsafe {
            ReOpenFile(
                file.ours()?.as_raw_handle(),
                GENERIC_READ | GENERIC_WRITE,
                FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                FILE_FLAG_OVERLAPPED | FILE_FLAG_WRITE_THROUGH | direct,
            )
        };
        if writes == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a handle that was just made and belongs to nobody else.
        let writes = Arc::new(unsafe { OwnedHandle::from_raw_handle(writes) });
        // SAFETY: two live handles.
        let bound = unsafe {
            let port = self.port.handle.as_raw_handle();
            CreateIoCompletionPort(writes.as_raw_handle(), port, WRITE, 0)
        };
        if bound.is_null() {
            return Err(io::Error::last_os_error());
        }
        ignore_poison(self.port.writes.lock()).push(writes.clone());
        Ok(self.files.add(Attached { file, writes, block }))
    }

    fn detach(&mut self, file: FileId) {
        if let Some(attached) = self.files.take(file) {
            let mut writes = ignore_poison(self.port.writes.lock());
            writes.retain(|handle| !Arc::ptr_eq(handle, &attached.writes));
        }
    }

    /// Through the page cache, which both handles share. Not where the fence is the drive's alone: that
    /// of the other handle is asked for.
    fn inline(&self, file: FileId) -> Option<Arc<dyn Inline>> {
        let attached = self.files.of(file);
        let is_buffered = attached.block == 1 && !self.trusts_the_drive;
        is_buffered
            .then(|| Arc::new(Buffered(attached.file.clone(), self.data_sync)) as Arc<dyn Inline>)
    }

    fn room(&mut self) -> usize {
        (self.free.len()).saturating_sub(self.flushes + self.ready.len())
    }

    fn submit(&mut self, file: FileId, token: Token, op: Op) {
        match op {
            Op::Write { at, region, .. } => self.start_write(file, token, at, region),
            Op::Zeros { .. } => {
                let result = Err(io::ErrorKind::Unsupported.into()); // not asked for on Windows
                self.ready.push_back(Completion { token, result });
            }
            Op::Flush if self.trusts_the_drive || Canary::flushes_nothing() => {
                self.ready.push_back(Completion { token, result: Ok(0) });
            }
            Op::Flush => {
                let file = self.files.of(file).file.clone();
                let left = match self.may_flush_here() {
                    true => Some(file),
                    false => self.flusher.ask(&self.port, self.data_sync, file, token),
                };
                match left {
                    None => self.flushes += 1,
                    // No thread is to be had, or worth it: writes have to wait for this one.
                    Some(file) => {
                        let result = self.data_sync.flush(&file).map(|()| 0);
                        self.ready.push_back(Completion { token, result });
                    }
                }
            }
        }
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(()) // every write was handed over when it was submitted
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.take_flushes();
        if !self.ready.is_empty() {
            return Ok(());
        }
        let milliseconds = deadline.map_or(LONGEST_WAIT, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: a wait that ends too early would only begin again.
            let left = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(LONGEST_WAIT);
            left.min(LONGEST_WAIT)
        });
        self.take_packet(milliseconds).map(drop)
    }

    fn reap(&mut self) -> Option<Completion> {
        self.take_flushes();
        // Where no packet of a write is to come, those of the bell wait for who sleeps.
        while self.ready.is_empty() && self.free.len() < self.writes.len() {
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
        super::sync::read_full(self.files.of(file).file.ours()?, at, region)
    }

    fn lengthen(&mut self, file: FileId, len: u64) -> io::Result<()> {
        super::lengthen(self.files.of(file).file.ours()?, len)
    }
}

impl Drop for OverlappedBackend {
    /// Waits for every operation: the kernel must not write to freed memory.
    fn drop(&mut self) {
        while self.in_flight() {
            if self.take_packet(LONGEST_WAIT).is_err() {
                // The port is broken; leaking what the kernel may write to is the safe way out.
                std::mem::forget(std::mem::replace(&mut self.slots, Slots::new(0)));
                break;
            }
            self.take_flushes();
        }
    }
}

/// Plain calls on the handle that waits, for whoever waits anyway.
#[derive(Debug)]
struct Buffered(Arc<OsFile>, DataSync);

impl Inline for Buffered {
    fn carry_out(&self, op: Op) -> io::Result<usize> {
        match op {
            Op::Flush if Canary::flushes_nothing() => Ok(0),
            Op::Flush => self.1.flush(&self.0).map(|()| 0),
            write => self.0.carry_out(write),
        }
    }
}

/// The completion port, which is the doorbell too, and what the end of the process needs to know of
/// its backend.
#[derive(Debug)]
struct Port {
    handle: OwnedHandle,
    /// What the helper has flushed: kept here, since a packet may be lost for want of memory.
    flushed: Mutex<VecDeque<Completion>>,
    writes: Mutex<Vec<Arc<OwnedHandle>>>,
    /// Writes in the kernel's hands, or whose packets nobody has taken.
    under_way: AtomicUsize,
    /// Bells are lost.
    #[cfg(test)]
    is_deaf: std::sync::atomic::AtomicBool,
}

struct Packet {
    key: usize,
    overlapped: *mut OVERLAPPED,
    result: io::Result<usize>,
}

impl Port {
    fn new(handle: OwnedHandle, depth: usize) -> Self {
        Self {
            handle,
            flushed: Mutex::new(VecDeque::with_capacity(depth)),
            writes: Mutex::new(Vec::with_capacity(1)),
            under_way: AtomicUsize::new(0),
            #[cfg(test)]
            is_deaf: false.into(),
        }
    }

    /// The next packet, if one comes within the time.
    fn take(&self, milliseconds: u32) -> io::Result<Option<Packet>> {
        let (mut bytes, mut key, mut overlapped) = (0u32, 0usize, null_mut::<OVERLAPPED>());
        // SAFETY: three live places for the results.
        let taken = unsafe {
            GetQueuedCompletionStatus(
                self.handle.as_raw_handle(),
                &raw mut bytes,
                &raw mut key,
                &raw mut overlapped,
                milliseconds,
            )
        };
        if taken == 0 && overlapped.is_null() {
            // SAFETY: asks the thread's last error.
            return match unsafe { GetLastError() } {
                WAIT_TIMEOUT => Ok(None),
                code => Err(io::Error::from_raw_os_error(code as i32)),
            };
        }
        let result = if taken == 0 { Err(io::Error::last_os_error()) } else { Ok(bytes as usize) };
        Ok(Some(Packet { key, overlapped, result }))
    }

    fn flushed(&self, completion: Completion) {
        ignore_poison(self.flushed.lock()).push_back(completion);
        self.wake();
    }

    /// Whether the kernel still had something of the file that it could take back.
    fn cancel(&self) -> bool {
        let Ok(writes) = self.writes.try_lock() else { return false };
        // SAFETY: live handles; null stands for every operation. The last error is the thread's.
        writes.iter().any(|file| unsafe {
            CancelIoEx(file.as_raw_handle(), null_mut()) != 0 || GetLastError() != ERROR_NOT_FOUND
        })
    }
}

impl Wake for Port {
    fn wake(&self) {
        #[cfg(test)]
        if self.is_deaf.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: a live port; nothing travels with the key. It fails for want of memory only, and
        // then `LONGEST_WAIT` ends the wait.
        unsafe { PostQueuedCompletionStatus(self.handle.as_raw_handle(), 0, BELL, null_mut()) };
    }

    fn halt(&self) {
        let was_under_way = self.cancel();
        // Ten seconds for what a device has begun.
        let mut patience = if was_under_way { 100 } else { 1 };
        while self.under_way.load(Ordering::Relaxed) > 0 && patience > 0 {
            match self.take(if was_under_way { 100 } else { 0 }) {
                Ok(Some(packet)) if packet.key == WRITE => {
                    self.under_way.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(Some(_)) => {}
                Ok(None) => patience -= 1,
                Err(_) => return,
            }
        }
    }
}

/// The thread that flushes, so that writes go on meanwhile. It starts with the first flush that is
/// worth it: of a file whose fences are carried out by those who wait there is none.
#[derive(Default)]
struct Flusher(Option<(Sender<(Arc<OsFile>, Token)>, JoinHandle<()>)>);

impl Flusher {
    /// Gives the file back if there is no thread to do it.
    fn ask(
        &mut self,
        port: &Arc<Port>,
        call: DataSync,
        file: Arc<OsFile>,
        token: Token,
    ) -> Option<Arc<OsFile>> {
        if self.0.is_none() {
            let (orders, taken) = channel();
            let port = port.clone();
            let thread = std::thread::Builder::new()
                .name("writeflush-flush".into())
                .spawn(move || flush_for(&port, call, &taken));
            self.0 = thread.ok().map(|thread| (orders, thread));
        }
        match &self.0 {
            Some((orders, _)) => orders.send((file, token)).err().map(|refused| refused.0.0),
            None => Some(file),
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some((orders, thread)) = self.0.take() {
            drop(orders);
            let _ = thread.join();
        }
    }
}

fn flush_for(port: &Port, call: DataSync, orders: &Receiver<(Arc<OsFile>, Token)>) {
    while let Ok((file, token)) = orders.recv() {
        let result = call.flush(&file);
        // Before the answer: whoever has it may close the file.
        drop(file);
        port.flushed(Completion { token, result: result.map(|()| 0) });
    }
}

/// `NtFlushBuffersFileEx`: data, and a flush of the drive, without the times in the file's record
/// (Windows 8 and later; Wine 8.0 has none).
type FlushEx = unsafe extern "system" fn(HANDLE, u32, *const u8, u32, *mut [usize; 2]) -> NTSTATUS;

#[derive(Clone, Copy, Debug)]
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
        let file = file.ours()?;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::file::{Medium, OpenMode, open_system_file};
    use crate::options::{BackendChoice, Options};

    fn temporary() -> (tempfile::TempDir, Arc<dyn Handle>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take");
        let (file, _) = open_system_file(&Options::new(), &path, OpenMode::Create).unwrap();
        (dir, file)
    }

    fn completed(backend: &mut OverlappedBackend) -> Completion {
        loop {
            match backend.reap() {
                Some(completion) => return completion,
                None => backend.wait(None).unwrap(),
            }
        }
    }

    #[test]
    fn a_lost_packet_delays_a_flush_and_hangs_nobody() {
        let (done, ended) = channel();
        std::thread::spawn(move || {
            let (_dir, file) = temporary();
            let mut backend = OverlappedBackend::new(4, FenceForm::Auto).unwrap();
            let id = backend.attach(&file, &[]).unwrap();
            backend.port.is_deaf.store(true, Ordering::Relaxed);
            backend.submit(id, 7, Op::Flush);
            let completion = completed(&mut backend);
            assert_eq!((completion.token, completion.result.unwrap()), (7, 0));
            backend.submit(id, 8, Op::Flush);
            drop(backend);
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(60)).expect("no hang, no panic");
    }

    #[test]
    fn with_write_through_alone_nothing_is_flushed_and_the_label_says_so() {
        let (dir, file) = temporary();
        let mut backend = OverlappedBackend::new(4, FenceForm::WriteThrough).unwrap();
        let id = backend.attach(&file, &[]).unwrap();
        backend.submit(id, 7, Op::Flush);
        assert_eq!(backend.flushes, 0, "nobody was asked");
        assert_eq!(backend.reap().unwrap().token, 7);

        let options = Options::new().fence_form(FenceForm::WriteThrough);
        let path = dir.path().join("trusting");
        let mut writer = options.backend(BackendChoice::Overlapped).create(&path).unwrap();
        assert_eq!(writer.durability().medium, Medium::Device);
        assert!(writer.durability().reason.contains("trusts the drive"), "{}", writer.durability());
        assert_eq!(writer.write_flush(b"bytes").unwrap(), 5);
        assert_eq!(writer.close().unwrap().positions.durable, 5);
        assert_eq!(std::fs::read(path).unwrap(), b"bytes");
    }

    #[test]
    fn a_misaligned_write_is_refused_by_ourselves() {
        let (_dir, file) = temporary();
        let mut backend = OverlappedBackend::new(4, FenceForm::Auto).unwrap();
        let block = file.go_direct(1 << 20).unwrap();
        let id = backend.attach(&file, &[]).unwrap();
        let memory = crate::buffers::Memory::new(1 << 16, 2, 0, block as usize).unwrap();
        let whole = memory.ring(0, block);
        for (at, region) in [(1, whole), (0, whole.first(100)), (0, memory.ring(512, 512 + block))]
        {
            backend.submit(id, 7, Op::Write { at, region, dsync: false, link: false });
            let refused = backend.reap().unwrap().result.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
        }
        backend.submit(id, 8, Op::Write { at: 0, region: whole, dsync: false, link: false });
        assert_eq!(completed(&mut backend).result.unwrap() as u64, block);
        assert_eq!(backend.port.under_way.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn at_the_end_of_the_process_nothing_is_left_under_way() {
        let (_dir, file) = temporary();
        let mut backend = OverlappedBackend::new(4, FenceForm::Auto).unwrap();
        let id = backend.attach(&file, &[]).unwrap();
        let memory = crate::buffers::Memory::new(1 << 16, 2, 0, 4096).unwrap();
        for number in 0..3u64 {
            let (at, region) = (number << 12, memory.ring(number << 12, (number + 1) << 12));
            backend.submit(id, number, Op::Write { at, region, dsync: false, link: false });
        }
        backend.waker().halt();
        assert_eq!(backend.port.under_way.load(Ordering::Relaxed), 0);
        assert!(backend.port.take(0).unwrap().is_none(), "every packet was waited for");
        std::mem::forget(backend); // its driver is gone
    }

    // Wine 8.0 has no such flush: these stand for the one of Windows.

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "system" fn flushes(
        _: HANDLE,
        flags: u32,
        _: *const u8,
        _: u32,
        _: *mut [usize; 2],
    ) -> NTSTATUS {
        assert_eq!(flags, 4);
        ASKED.fetch_add(1, Ordering::Relaxed);
        0
    }

    unsafe extern "system" fn knows_no_such_flush(
        _: HANDLE,
        _: u32,
        _: *const u8,
        _: u32,
        _: *mut [usize; 2],
    ) -> NTSTATUS {
        STATUS_NOT_SUPPORTED
    }

    unsafe extern "system" fn fails(
        _: HANDLE,
        _: u32,
        _: *const u8,
        _: u32,
        _: *mut [usize; 2],
    ) -> NTSTATUS {
        const STATUS_IO_DEVICE_ERROR: NTSTATUS = 0xC000_0185_u32 as NTSTATUS;
        STATUS_IO_DEVICE_ERROR
    }

    #[test]
    fn the_data_sync_flush_comes_first_and_its_failure_is_one() {
        let (_dir, file) = temporary();
        let file = os_file(&*file).unwrap();
        DataSync(Some(flushes)).flush(&file).unwrap();
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        DataSync(Some(knows_no_such_flush)).flush(&file).unwrap();
        DataSync(None).flush(&file).unwrap();
        let error = DataSync(Some(fails)).flush(&file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1117), "ERROR_IO_DEVICE: {error}");
    }
}
