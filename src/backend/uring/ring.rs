//! The ring itself: how it is made, entered and let go, and whose its number is.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::cqueue::CompletionQueue;
use io_uring::squeue::SubmissionQueue;
use io_uring::{IoUring, Probe, Submitter, types};

use crate::file::Identity;
use crate::options::Drive;

// Of <linux/io_uring.h>.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const UNREGISTER_BUFFERS: u32 = 1;
const UNREGISTER_FILES: u32 = 3;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_USE_REGISTERED_RING: u32 = 1 << 31;

/// A ring whose number somebody else may close, and give to something of his own: that is neither
/// entered nor closed here.
pub(super) struct Ring {
    ring: ManuallyDrop<IoUring>,
    /// Each ring has an inode of its own from Linux 5.16 on. Before, it shares that of all anonymous
    /// files: then another one of those (eventfd(2), epoll(7)) is taken for it.
    identity: Identity,
    door: Door,
    drive: Drive,
}

/// What the ring is called when it is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Its number, looked at each time.
    Number,
    /// Its place in the table of the thread that drives: the kernel holds it there, whatever becomes
    /// of the number (IORING_REGISTER_RING_FDS, Linux 5.18).
    Index(u32),
}

/// `struct io_uring_rsrc_update`: `data` is the number on the way in, `offset` the index on the way
/// out.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct Patience {
    signals: u64,
    signals_len: u32,
    reserved: u32,
    time: u64,
}

impl Ring {
    /// A ring with that many entries. In a child its mappings are not there: nothing may touch it.
    pub(super) fn new(entries: u32, drive: Drive) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.dontfork();
        if drive != Drive::Poll {
            // Completions are delivered when the driver enters the kernel, not by an interrupt of
            // whatever it does. A polling driver does not enter the kernel to look.
            builder.setup_coop_taskrun();
        }
        let ring = builder.build(entries).or_else(|error| {
            // Kernels before 5.19 do not know the flag.
            if error.raw_os_error() == Some(libc::EINVAL) {
                IoUring::builder().dontfork().build(entries)
            } else {
                Err(error)
            }
        })?;
        let identity = Identity::of(ring.as_raw_fd())?;
        Ok(Self { ring: ManuallyDrop::new(ring), identity, door: Door::Number, drive })
    }

    /// From now on this thread alone enters, unless callers drive: it needs no number then.
    pub(super) fn settle_on_this_thread(&mut self) -> io::Result<()> {
        if self.drive == Drive::Caller {
            return Ok(()); // whoever comes
        }
        let mut update = Update { offset: u32::MAX, reserved: 0, data: self.number()? as u64 };
        // Refused by older kernels, and where the table of this thread is full: then by number.
        if self.register(REGISTER_RING_FDS, (&raw mut update).cast(), 1).is_ok() {
            self.door = Door::Index(update.offset);
        }
        Ok(())
    }

    pub(super) fn submission(&mut self) -> SubmissionQueue<'_> {
        self.ring.submission()
    }

    pub(super) fn completion(&mut self) -> CompletionQueue<'_> {
        self.ring.completion()
    }

    /// To register what operations use.
    pub(super) fn submitter(&self) -> io::Result<Submitter<'_>> {
        self.number()?;
        Ok(self.ring.submitter())
    }

    /// Whether the kernel knows an operation.
    pub(super) fn knows(&self, operation: u8) -> bool {
        let mut probe = Probe::new();
        let asked = self.submitter().and_then(|ring| ring.register_probe(&mut probe));
        asked.is_ok() && probe.is_supported(operation)
    }

    /// Hands over what is in the queue, and waits for so many completions, for a limited time.
    pub(super) fn enter(&mut self, want: usize, limit: Option<Duration>) -> io::Result<()> {
        let queue = self.ring.submission();
        let (len, behind) = (queue.len(), queue.cq_overflow() || queue.taskrun());
        drop(queue);
        let mut flags = if want > 0 || behind { ENTER_GETEVENTS } else { 0 };
        let time = limit.map(types::Timespec::from);
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        let patience = Patience {
            signals: 0,
            signals_len: 0,
            reserved: 0,
            time: time.expose_provenance() as u64,
        };
        let (argument, size) = match limit {
            Some(_) => {
                flags |= ENTER_EXT_ARG;
                (&raw const patience, size_of_val(&patience))
            }
            None => (ptr::null(), 0),
        };
        let name = match self.door {
            Door::Number => self.number()?,
            Door::Index(index) => {
                flags |= ENTER_REGISTERED_RING;
                index as RawFd
            }
        };
        // SAFETY: the entries in the queue keep what they point to (see `push`); the argument,
        // and the time that it points to, live through the call.
        let taken = unsafe {
            let call = libc::SYS_io_uring_enter;
            libc::syscall(call, name, len as u32, want as u32, flags, argument, size)
        };
        if taken < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Nothing is in flight. The kernel takes a ring apart some time after it is closed; what it
    /// holds is let go now, so that the file system can be unmounted after a close. A ring whose
    /// number is somebody else's by now can't be closed: its mappings, and with them the ring, stay
    /// until the process ends.
    pub(super) fn let_go(&mut self) {
        let _ = self.register(UNREGISTER_FILES, ptr::null_mut(), 0);
        let _ = self.register(UNREGISTER_BUFFERS, ptr::null_mut(), 0);
        if let Door::Index(offset) = self.door {
            let mut update = Update { offset, reserved: 0, data: 0 };
            let _ = self.register(UNREGISTER_RING_FDS, (&raw mut update).cast(), 1);
        }
        if self.number().is_ok() {
            // SAFETY: never used again.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        }
    }

    /// Its number, unless that is nobody's or somebody else's by now. Costs a system call (statx(2)).
    fn number(&self) -> io::Result<RawFd> {
        let number = self.ring.as_raw_fd();
        self.identity.check(number, "io_uring's").map(|()| number)
    }

    /// io_uring_register(2); by index from Linux 6.3 on.
    fn register(&self, operation: u32, argument: *mut libc::c_void, len: u32) -> io::Result<()> {
        let by = |name: RawFd, operation: u32| {
            // SAFETY: the callers give what the operation asks for, alive through the call.
            let done = unsafe {
                libc::syscall(libc::SYS_io_uring_register, name, operation, argument, len)
            };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        if let Door::Index(index) = self.door
            && by(index as RawFd, operation | REGISTER_USE_REGISTERED_RING).is_ok()
        {
            return Ok(());
        }
        by(self.number()?, operation)
    }
}
