//! Somebody closes the numbers of a writer's descriptors, each of them, and may open something of
//! his own that gets the number: nobody hangs, nothing of his is touched, and the stream goes on or
//! says why not.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(unsafe_code)]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Config, assert_same_failure, bytes, child_succeeds, child_task, configs, directory};
use common::{assert_file, watched};
use io_uring::{IoUring, opcode};
use seccomp::{end, filter, look_at, unless};
use writeflush::{BackendChoice, Error, Operation};

/// What has the number afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nobody,
    File,
    Pipe,
    Event,
    Ring,
}

const WAYS: [Way; 5] = [Way::Nobody, Way::File, Way::Pipe, Way::Event, Way::Ring];

/// What a stranger has under the number, as he left it.
enum Stranger {
    Nobody,
    File {
        path: PathBuf,
        content: Vec<u8>,
        changed: (i64, i64),
    },
    Pipe {
        read: std::io::PipeReader,
    },
    Event,
    /// With one entry in its queue that he has not submitted.
    Ring(Box<IoUring>),
}

struct Taken {
    number: RawFd,
    identity: Option<(u64, u64)>,
    stranger: Stranger,
}

fn identity(number: RawFd) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Taken {
    fn by(way: Way, number: RawFd, folder: &Path) -> Self {
        let put = |from: OwnedFd| {
            // SAFETY: just what must not be done: it closes the one that has the number. The new one
            // is closed by `assert_untouched`.
            assert_eq!(unsafe { libc::dup3(from.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
        };
        let stranger = match way {
            Way::Nobody => {
                // SAFETY: as above.
                assert_eq!(unsafe { libc::close(number) }, 0);
                Stranger::Nobody
            }
            Way::File => {
                let (path, content) = (folder.join("stranger's"), bytes(3, 30_000));
                std::fs::write(&path, &content).unwrap();
                put(File::options().read(true).write(true).open(&path).unwrap().into());
                let found = std::fs::metadata(&path).unwrap();
                Stranger::File { path, content, changed: (found.mtime(), found.mtime_nsec()) }
            }
            Way::Pipe => {
                let (read, write) = std::io::pipe().unwrap();
                // SAFETY: plain integers.
                unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
                put(write.into());
                Stranger::Pipe { read }
            }
            Way::Event => {
                let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
                // SAFETY: a descriptor that was just made.
                put(unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, flags)) });
                Stranger::Event
            }
            Way::Ring => {
                let mut ring = IoUring::new(8).unwrap();
                // SAFETY: it points to nothing.
                unsafe { ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
                // SAFETY: as above; the ring's own number stays his.
                put(unsafe { OwnedFd::from_raw_fd(libc::dup(ring.as_raw_fd())) });
                Stranger::Ring(Box::new(ring))
            }
        };
        Self { number, identity: identity(number), stranger }
    }

    /// Nothing has happened to it.
    fn assert_untouched(mut self, label: &str) {
        assert_eq!(identity(self.number), self.identity, "{label}: who has the number");
        match &mut self.stranger {
            Stranger::Nobody => return,
            Stranger::File { path, content, changed } => {
                assert_file(path, content, &label);
                let found = std::fs::metadata(&path).unwrap();
                assert_eq!((found.mtime(), found.mtime_nsec()), *changed, "{label}");
            }
            Stranger::Pipe { read } => {
                // SAFETY: plain number.
                assert_eq!(unsafe { libc::close(self.number) }, 0);
                let mut rest = Vec::new();
                read.read_to_end(&mut rest).unwrap();
                assert!(rest.is_empty(), "{label}: {rest:?} in a stranger's pipe");
                return;
            }
            Stranger::Event => {
                let mut count = 0u64;
                // SAFETY: a live integer of eight bytes.
                let found = unsafe { libc::read(self.number, (&raw mut count).cast(), 8) };
                assert_eq!((found, count), (-1, 0), "{label}: a stranger's counter");
            }
            Stranger::Ring(ring) => {
                assert_eq!(ring.submission().len(), 1, "{label}: a stranger's entry was submitted");
                assert_eq!(ring.submit_and_wait(1).unwrap(), 1, "{label}");
            }
        }
        // SAFETY: the number that `by` made.
        assert_eq!(unsafe { libc::close(self.number) }, 0);
    }
}

fn open_descriptors() -> BTreeMap<RawFd, String> {
    let entry = |name: std::ffi::OsString| {
        let number: RawFd = name.to_str()?.parse().ok()?;
        let link = std::fs::read_link(Path::new("/proc/self/fd").join(name)).ok()?;
        Some((number, link.to_string_lossy().into_owned()))
    };
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|one| one.unwrap().file_name());
    let names: Vec<_> = names.collect();
    names.into_iter().filter_map(entry).collect() // that of the listing is gone by now
}

/// When the number is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The driver sleeps, if there is one.
    Idle,
    /// A fence is asked for, and nobody has waited for it.
    Fencing,
}

/// Takes the `index`th descriptor of a new writer, in a directory of its own; `None`: there are not
/// so many.
fn take_one(config: Config, index: usize, way: Way, moment: Moment) -> Option<()> {
    let folder = directory();
    let path = folder.path().join("take");
    let before = open_descriptors();
    let mut writer = config.create(&path);
    let control = writer.control().clone();
    let mut ours = open_descriptors();
    ours.retain(|number, _| !before.contains_key(number));
    let (number, link) = ours.into_iter().nth(index)?;
    let label = format!("{config}, {link}, {way:?}, {moment:?}");

    let data = bytes(2, 50_000);
    assert_eq!(writer.write_flush(&data[..20_000]).unwrap(), 20_000);
    let mut ticket = None;
    match moment {
        Moment::Idle => std::thread::sleep(Duration::from_millis(5)),
        Moment::Fencing => {
            let _ = writer.write(&data[20_000..30_000]).unwrap();
            ticket = Some(writer.fence());
        }
    }
    let taken = Taken::by(way, number, folder.path());
    let fenced = ticket.map_or(Ok(20_000), |ticket| ticket.wait());
    let written = writer.positions().accepted as usize;
    let rest = writer.write(&data[written..]).and_then(|_| writer.flush());
    match &rest {
        Ok(position) => {
            assert_eq!(*position, 50_000, "{label}");
            assert!(fenced.is_ok(), "{label}: {fenced:?}");
        }
        Err(error) => {
            let Error::Io { operation, .. } = error else { panic!("{label}: {error:?}") };
            assert_ne!(*operation, Operation::Open, "{label}: {error}");
            // Everybody hears of it, and hears the same.
            assert_same_failure(&control.error().unwrap(), error);
            match control.flush() {
                Ok(position) => assert_eq!(position, control.positions().accepted, "{label}"),
                Err(flush) => assert_same_failure(&flush, error),
            }
            if let Err(fence) = fenced {
                assert_same_failure(&fence, error);
            }
        }
    }
    let (accepted, durable) = (control.positions().accepted, control.positions().durable);
    let (accepted, durable) = (accepted as usize, durable as usize);
    let closed = writer.close();
    let found = std::fs::read(&path).unwrap();
    match closed {
        Ok(_) => assert!(found == data[..accepted], "{label}: a close that lies"),
        Err(_) => assert!(durable >= 20_000 && found[..durable] == data[..durable], "{label}"),
    }
    taken.assert_untouched(&label);
    // The next one finds everything in order.
    let next = folder.path().join("next");
    let mut writer = config.create(&next);
    assert_eq!(writer.write_flush(&data).unwrap(), 50_000, "{label}");
    writer.close().unwrap();
    assert_file(&next, &data, &label);
    Some(())
}

fn take_each(config: Config, least: usize) {
    for way in WAYS {
        for moment in [Moment::Idle, Moment::Fencing] {
            let mut taken = 0;
            let label = format!("{config}, {way:?}, {moment:?}");
            while watched(&label, move || take_one(config, taken, way, moment)).is_some() {
                taken += 1;
            }
            assert!(taken >= least, "{label}: only {taken} descriptors were found");
        }
    }
}

#[test]
fn whoever_takes_a_descriptor_of_a_writer_is_not_touched_and_stops_nobody() {
    let name = "whoever_takes_a_descriptor_of_a_writer_is_not_touched_and_stops_nobody";
    let Some(task) = child_task() else {
        return (0..configs().len()).for_each(|number| {
            child_succeeds(name, &number.to_string(), |_| {});
        });
    };
    let config = configs()[task.parse::<usize>().unwrap()];
    // The file and its directory; the ring.
    take_each(config, if config.backend == BackendChoice::Sync { 2 } else { 3 });
}

/// As before Linux 6.7, where the ring can't wait on a word of memory: the doorbell is one end of a
/// connection.
#[test]
fn nor_where_the_doorbell_needs_a_descriptor() {
    let name = "nor_where_the_doorbell_needs_a_descriptor";
    let all = configs().into_iter().filter(|config| config.backend == BackendChoice::Uring);
    let all: Vec<_> = all.collect();
    let Some(task) = child_task() else {
        return (0..all.len()).for_each(|number| {
            child_succeeds(name, &number.to_string(), |command| {
                // SAFETY: the closure allocates nothing and takes no lock.
                unsafe { command.pre_exec(refuse_the_probe) };
            });
        });
    };
    take_each(all[task.parse::<usize>().unwrap()], 4);
}

/// From now on nobody in this process can ask io_uring what it knows (IORING_REGISTER_PROBE).
fn refuse_the_probe() -> std::io::Result<()> {
    const PROBE: u32 = 8;
    let second = std::mem::offset_of!(libc::seccomp_data, args) + 8;
    let second = second + if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut steps = [
        look_at(0),
        unless(libc::SYS_io_uring_register as u32, 3),
        look_at(second as u32),
        unless(PROBE, 1),
        end(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    filter(&mut steps, 0).map(|_| ())
}
