//! A file system in memory whose answers can be told: a FUSE server in a process of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{CHILD, child_succeeds, child_task, may_mount, skip, with_own_mounts};

/// What fails from the start, each with its error (0: nothing). Without `fallocate` the kernel hears
/// that there is no such call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// What close(2) says.
    pub flush: i32,
    pub fsync: i32,
    pub fsyncdir: i32,
}

impl Faults {
    fn read(text: &str) -> Self {
        let mut codes = text.split(',').map(|code| code.parse().unwrap());
        let mut next = || codes.next().unwrap();
        Self { flush: next(), fsync: next(), fsyncdir: next() }
    }
}

/// Runs `body` on such a file system for each of `faults`. The test is three processes: this one, a
/// child with mounts of its own, and its servers.
pub fn on_fuse(test: &str, faults: &[Faults], body: impl Fn(Faults, &Path)) {
    let Some(task) = child_task() else {
        if !Path::new("/dev/fuse").exists() {
            skip(test, "it needs /dev/fuse");
        } else if may_mount(test) {
            child_succeeds(test, "mount", with_own_mounts);
        }
        return;
    };
    if let Some(order) = task.strip_prefix("serve ") {
        let (codes, place) = order.split_once(' ').unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("test".into())];
        fuser::mount(Memory::new(Faults::read(codes)), place, &config).unwrap();
        return;
    }
    for faults in faults {
        let directory = super::directory();
        let server = Server::start(test, *faults, directory.path());
        body(*faults, directory.path());
        drop(server);
    }
}

struct Server {
    process: Child,
    place: PathBuf,
}

impl Server {
    fn start(test: &str, faults: Faults, place: &Path) -> Self {
        let Faults { flush, fsync, fsyncdir } = faults;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(CHILD, format!("serve {flush},{fsync},{fsyncdir} {}", place.display()));
        command.stdout(Stdio::null());
        // SAFETY: a system call with constants, allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let before = place.metadata().unwrap().dev();
        let mut server = Self { process: command.spawn().unwrap(), place: place.into() };
        while place.metadata().unwrap().dev() == before {
            assert!(server.process.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        use std::os::unix::ffi::OsStrExt;
        let place = std::ffi::CString::new(self.place.as_os_str().as_bytes()).unwrap();
        // SAFETY: a live C string.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Memory {
    faults: Faults,
    files: Mutex<Files>,
}

struct Files {
    names: BTreeMap<OsString, INodeNo>,
    content: BTreeMap<INodeNo, Vec<u8>>,
}

const AT_ONCE: Duration = Duration::ZERO;

impl Memory {
    fn new(faults: Faults) -> Self {
        let files = Files { names: BTreeMap::new(), content: BTreeMap::new() };
        Self { faults, files: Mutex::new(files) }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let is_directory = inode == INodeNo::ROOT;
        let size = match self.content.get(&inode) {
            Some(content) => content.len() as u64,
            None if is_directory => 0,
            None => return None,
        };
        let is_named = is_directory || self.names.values().any(|named| *named == inode);
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_directory { FileType::Directory } else { FileType::RegularFile },
            perm: if is_directory { 0o755 } else { 0o644 },
            nlink: u32::from(is_named),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn answer(code: i32, reply: ReplyEmpty) {
    if code == 0 { reply.ok() } else { reply.error(Errno::from_i32(code)) }
}

impl Filesystem for Memory {
    fn lookup(&self, _: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = self.files();
        match files.names.get(name).and_then(|inode| files.attributes(*inode)) {
            Some(attributes) => reply.entry(&AT_ONCE, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files().attributes(inode) {
            Some(attributes) => reply.attr(&AT_ONCE, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut files = self.files();
        if let (Some(size), Some(content)) = (size, files.content.get_mut(&inode)) {
            content.resize(size as usize, 0);
        }
        match files.attributes(inode) {
            Some(attributes) => reply.attr(&AT_ONCE, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        _: &Request,
        _parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut files = self.files();
        let inode = INodeNo(INodeNo::ROOT.0 + 1 + files.content.len() as u64);
        files.names.insert(name.into(), inode);
        files.content.insert(inode, Vec::new());
        let attributes = files.attributes(inode).unwrap();
        let (generation, handle) = (Generation(0), FileHandle(0));
        reply.created(&AT_ONCE, &attributes, generation, handle, FopenFlags::empty());
    }

    fn unlink(&self, _: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.files().names.remove(name);
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let files = self.files();
        let content = &files.content[&inode];
        let end = content.len().min(offset as usize + size as usize);
        reply.data(content.get(offset as usize..end).unwrap_or_default());
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut files = self.files();
        let content = files.content.get_mut(&inode).unwrap();
        let end = offset as usize + data.len();
        content.resize(content.len().max(end), 0);
        content[offset as usize..end].copy_from_slice(data);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(self.faults.flush, reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.faults.fsync, reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.faults.fsyncdir, reply);
    }
}
