//! The disk: a FUSE server in a process of its own, with one file that a loop device lies on. It
//! stamps every request into a [`Log`], answers late and out of order, and can be told to fail.

use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::log::{Claim, Flush, Log, Moment, Write};

/// The file that is the disk.
pub(crate) const DISK: &str = "disk";
/// What is written here are claims: a line each.
pub(crate) const CLAIMS: &str = "claims";
/// What is written here are orders (see `State::obey`).
pub(crate) const ORDERS: &str = "orders";

const FILES: [(u64, &str); 3] = [(2, DISK), (3, CLAIMS), (4, ORDERS)];
const DISK_INODE: INodeNo = INodeNo(2);
const CLAIMS_INODE: INodeNo = INodeNo(3);
const FOREVER: Duration = Duration::from_secs(3600);

/// How late a request is answered: this, and up to so much more.
const DELAY: Duration = Duration::from_micros(50);
const JITTER_MICROS: u64 = 5_000;
const BLOCK: usize = 4096;

#[derive(Debug)]
struct State {
    image: Vec<u8>,
    /// Blocks that have ever been written: what a thin device has given space to.
    given: Vec<bool>,
    log: Log,
    random: fastrand::Rng,
    faults: Faults,
}

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    writes: Option<i32>,
    /// Writes to blocks that were never written.
    new: Option<i32>,
    flushes: Option<i32>,
    stall: Duration,
    /// Everything fails, reads too.
    gone: bool,
}

impl State {
    fn stamp(&mut self) -> Moment {
        self.log.end += 1;
        self.log.end - 1
    }

    fn delay(&mut self) -> Duration {
        DELAY + Duration::from_micros(self.random.u64(..JITTER_MICROS)) + self.faults.stall
    }

    /// Why a write fails, if it does.
    fn refuses(&mut self, place: Range<usize>) -> Option<i32> {
        if self.faults.writes.is_some() {
            return self.faults.writes;
        }
        let given = &mut self.given[place.start / BLOCK..place.end.div_ceil(BLOCK)];
        if self.faults.new.is_some() && given.contains(&false) {
            return self.faults.new;
        }
        given.fill(true);
        None
    }

    /// `fail writes 5`, `fail new 28`, `fail flushes 5`, `stall 700` (ms), `gone`, `heal`, `dump`.
    fn obey(&mut self, order: &str, dump: &Path) -> Result<(), Errno> {
        let words: Vec<&str> = order.split_whitespace().collect();
        match words[..] {
            ["fail", "writes", code] => self.faults.writes = Some(number(code)?),
            ["fail", "new", code] => self.faults.new = Some(number(code)?),
            ["fail", "flushes", code] => self.faults.flushes = Some(number(code)?),
            ["stall", millis] => self.faults.stall = Duration::from_millis(number(millis)?),
            ["gone"] => {
                let gone = Some(libc::ENODEV);
                self.faults = Faults { writes: gone, flushes: gone, gone: true, ..self.faults };
            }
            ["heal"] => self.faults = Faults::default(),
            ["dump"] => {
                let bytes = postcard::to_stdvec(&self.log).map_err(|_| Errno::EIO)?;
                std::fs::write(dump, bytes).map_err(Errno::from)?;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, Errno> {
    word.parse().map_err(|_| Errno::EINVAL)
}

/// What is to happen at a certain time.
struct Alarm {
    at: Instant,
    number: u64,
    ring: Box<dyn FnOnce() + Send>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    /// The greatest is the first to ring.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// One thread that answers when it is time.
#[derive(Default)]
struct Timer {
    alarms: Mutex<BinaryHeap<Alarm>>,
    news: Condvar,
    count: AtomicU64,
}

impl Timer {
    fn after(&self, delay: Duration, ring: impl FnOnce() + Send + 'static) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let alarm = Alarm { at: Instant::now() + delay, number, ring: Box::new(ring) };
        lock(&self.alarms).push(alarm);
        self.news.notify_one();
    }

    fn run(&self) -> ! {
        let mut alarms = lock(&self.alarms);
        loop {
            let wait = match alarms.peek() {
                Some(alarm) => alarm.at.saturating_duration_since(Instant::now()),
                None => FOREVER,
            };
            if wait.is_zero() {
                if let Some(alarm) = alarms.pop() {
                    drop(alarms);
                    (alarm.ring)();
                    alarms = lock(&self.alarms);
                }
            } else {
                let waited = self.news.wait_timeout(alarms, wait);
                alarms = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Server {
    state: Arc<Mutex<State>>,
    timer: Arc<Timer>,
    dump: PathBuf,
}

/// The blocks that are no holes.
fn given(base: &std::fs::File) -> anyhow::Result<Vec<bool>> {
    use rustix::fs::{SeekFrom, seek};
    let len = base.metadata()?.len();
    let mut given = vec![false; (len as usize).div_ceil(BLOCK)];
    let mut at = 0;
    while let Ok(data) = seek(base, SeekFrom::Data(at)) {
        at = seek(base, SeekFrom::Hole(data))?;
        given[data as usize / BLOCK..(at as usize).div_ceil(BLOCK)].fill(true);
    }
    Ok(given)
}

/// Serves until it is killed or unmounted.
pub(crate) fn serve(base: &Path, mount: &Path, dump: &Path, seed: u64) -> anyhow::Result<()> {
    let state = State {
        image: std::fs::read(base)?,
        given: given(&std::fs::File::open(base)?)?,
        log: Log::default(),
        random: fastrand::Rng::with_seed(seed),
        faults: Faults::default(),
    };
    let timer = Arc::new(Timer::default());
    let theirs = timer.clone();
    std::thread::spawn(move || theirs.run());
    let server = Server { state: Arc::new(Mutex::new(state)), timer, dump: dump.into() };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("powercut".into())];
    Ok(fuser::mount(server, mount, &config)?)
}

impl Server {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let directory = inode == INodeNo::ROOT;
        if !directory && !FILES.iter().any(|(number, _)| INodeNo(*number) == inode) {
            return None;
        }
        let size = if inode == DISK_INODE { lock(&self.state).image.len() as u64 } else { 0 };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: if directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn disk_write(&self, at: u64, data: &[u8], reply: ReplyWrite) {
        let mut state = lock(&self.state);
        let arrived = state.stamp();
        let delay = state.delay();
        let len = data.len() as u32;
        let (from, to) = (at as usize, at as usize + data.len());
        if to > state.image.len() {
            self.timer.after(delay, move || reply.error(Errno::ENOSPC));
            return;
        }
        let refused = state.refuses(from..to);
        // What fails may be there all the same, in part: it never completes. What a thin device has
        // no space for is nowhere.
        let index = state.log.writes.len();
        if refused != Some(libc::ENOSPC) {
            state.log.writes.push(Write { at, bytes: data.to_vec(), arrived, completed: None });
        }
        if let Some(code) = refused {
            self.timer.after(delay, move || reply.error(Errno::from_i32(code)));
            return;
        }
        state.image[from..to].copy_from_slice(data);
        let shared = self.state.clone();
        self.timer.after(delay, move || {
            let mut state = lock(&shared);
            state.log.writes[index].completed = Some(state.stamp());
            drop(state);
            reply.written(len);
        });
    }

    fn disk_flush(&self, reply: ReplyEmpty) {
        let mut state = lock(&self.state);
        let arrived = state.stamp();
        let delay = state.delay();
        if let Some(code) = state.faults.flushes {
            self.timer.after(delay, move || reply.error(Errno::from_i32(code)));
            return;
        }
        let index = state.log.flushes.len();
        state.log.flushes.push(Flush { arrived, completed: None });
        let shared = self.state.clone();
        self.timer.after(delay, move || {
            let mut state = lock(&shared);
            state.log.flushes[index].completed = Some(state.stamp());
            drop(state);
            reply.ok();
        });
    }
}

impl Filesystem for Server {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // What is refused keeps its default.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_background(256);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = FILES.iter().find(|(_, known)| *known == name);
        match found.and_then(|(inode, _)| self.attributes(INodeNo(*inode))) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Claims and orders are to be heard at once.
        let flags = match inode == DISK_INODE {
            true => FopenFlags::empty(),
            false => FopenFlags::FOPEN_DIRECT_IO,
        };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if inode != DISK_INODE {
            return reply.data(&[]);
        }
        let state = lock(&self.state);
        if state.faults.gone {
            return reply.error(Errno::ENODEV);
        }
        let end = state.image.len().min(offset as usize + size as usize);
        reply.data(state.image.get(offset as usize..end).unwrap_or_default());
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if inode == DISK_INODE {
            return self.disk_write(offset, data, reply);
        }
        let text = String::from_utf8_lossy(data).trim().to_owned();
        let mut state = lock(&self.state);
        if inode == CLAIMS_INODE {
            let said = state.stamp();
            state.log.claims.push(Claim { said, text });
        } else if let Err(error) = state.obey(&text, &self.dump) {
            return reply.error(error);
        }
        reply.written(data.len() as u32);
    }

    fn fsync(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        match inode == DISK_INODE {
            true => self.disk_flush(reply),
            false => reply.ok(),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    /// Discards and write-zeroes of a loop device: it writes then.
    fn fallocate(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }
}
