//! Ways to make bytes durable, as they are compared: floors written by hand, writeflush, and what
//! a program would use without it. One file each; a new one is added to [`kinds`].

mod floors;
mod ours;
mod standard;

use std::io;
use std::path::Path;

pub use ours::writer;
pub use writeflush::Medium;

use crate::FileState;

/// An open file that records are committed to.
pub trait Subject: Send + Sync {
    /// Takes the record and returns when it is as durable as the subject's [`Class`] says.
    /// `committer` counts from 0; each is one thread at a time.
    ///
    /// # Errors
    /// What the operating system or the subject says.
    fn commit(&self, committer: usize, record: &[u8]) -> io::Result<()>;

    /// Flushes that the subject knows to have asked for, where that may be fewer than commits.
    fn flushes(&self) -> Option<u64> {
        None
    }

    /// What a fence reaches here, where the subject found that out itself.
    fn medium(&self) -> Option<Medium> {
        None
    }
}

/// What is asked for with a commit. What that is worth, the place decides: [`Survives`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A fence.
    Durable,
    /// No fence.
    PageCache,
}

/// What a commit survives. These are never ranked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Survives {
    /// A power cut: a fence on this file system flushes the device.
    PowerCut,
    /// Whatever the file system's own fence survives: that it flushes a device is not known.
    Unconfirmed,
    /// Nothing but the end of the process: the file system is in memory.
    Memory,
    /// A crash of the process, not of the machine: no fence was asked for.
    Process,
}

impl Survives {
    /// What a commit of this class survives where a fence reaches this medium.
    pub fn of(class: Class, medium: Medium) -> Self {
        match (class, medium) {
            (Class::PageCache, _) => Self::Process,
            (Class::Durable, Medium::StableMedia) => Self::PowerCut,
            (Class::Durable, Medium::PageCache) => Self::Memory,
            (Class::Durable, _) => Self::Unconfirmed,
        }
    }

    /// The word for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerCut => "durable",
            Self::Unconfirmed => "device, flush not confirmed",
            Self::Memory => "memory",
            Self::Process => "page cache",
        }
    }
}

/// Where a subject belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// System calls by hand.
    Floor,
    /// This crate.
    Writeflush,
    /// What a program would use without it.
    Standard,
    /// Another crate.
    Peer,
}

impl Family {
    /// The word for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Writeflush => "writeflush",
            Self::Standard => "standard library",
            Self::Peer => "peer",
        }
    }
}

/// The file that a subject is opened on, and what will be asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// A file prepared in this state.
    pub path: &'a Path,
    /// The state.
    pub state: FileState,
    /// Threads that commit.
    pub committers: usize,
    /// Bytes in a record.
    pub record: usize,
    /// Whether subjects that can bypass the page cache may.
    pub direct: bool,
    /// Commits of each committer, at most.
    pub commits: u64,
}

impl Place<'_> {
    /// Bytes of the file that belong to one committer, where each has a part of its own: a
    /// multiple of 4096.
    pub fn region(&self) -> u64 {
        (self.commits * self.record as u64).next_multiple_of(4096)
    }

    /// Bytes that the file will hold at most.
    pub fn len(&self) -> u64 {
        self.region() * self.committers as u64
    }

    /// Whether nothing will be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Opens a subject.
pub type Open = fn(&Place<'_>) -> io::Result<Box<dyn Subject>>;

/// A subject before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in tables, files and options.
    pub name: &'static str,
    /// Where it belongs.
    pub family: Family,
    /// What a commit survives.
    pub class: Class,
    /// The name of what it is compared to: the same system calls by hand.
    pub floor: Option<&'static str>,
    /// A thread of it spins while it is open: it is not interleaved with others.
    pub spins: bool,
    /// How to open it.
    pub open: Open,
}

/// All that are built in, floors first.
pub fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    all.extend(floors::KINDS);
    all.extend(ours::KINDS);
    all.extend(standard::KINDS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::skip::skip;

    /// Every committer's records have to be in the file after the subject is gone.
    fn commits_reach_the_file(kind: &Kind, committers: usize) {
        let folder = tempfile::tempdir_in(crate::scratch_dir()).expect("a folder");
        let path = folder.path().join("file");
        let state = FileState::Written;
        let place =
            Place { path: &path, state, committers, record: 300, direct: true, commits: 20 };
        state.prepare(&path, place.len()).expect("a file");
        let subject = match (kind.open)(&place) {
            Ok(subject) => subject,
            // No io_uring, or no direct I/O: what CI runs on has both, so that nothing is expected.
            Err(error) => return skip(kind.name, &format!("refused here ({error})")),
        };
        std::thread::scope(|scope| {
            for committer in 0..committers {
                let subject = &subject;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let record = [committer as u8 + 1; 300];
                        subject.commit(committer, &record).expect("a commit");
                    }
                });
            }
        });
        drop(subject);
        let found = std::fs::read(&path).expect("the file");
        for committer in 0..committers {
            let count = found.iter().filter(|byte| **byte == committer as u8 + 1).count();
            assert!(count >= 20 * 300, "{}: {count} bytes of {committer}", kind.name);
        }
    }

    #[test]
    fn every_subject_writes_what_it_commits() {
        for kind in kinds() {
            commits_reach_the_file(&kind, 1);
            commits_reach_the_file(&kind, 4);
        }
    }

    #[test]
    fn every_floor_that_is_named_exists_in_the_same_class() {
        let all = kinds();
        for kind in &all {
            let Some(name) = kind.floor else { continue };
            let floor = all.iter().find(|other| other.name == name).expect(name);
            assert_eq!(floor.class, kind.class, "{}", kind.name);
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = kinds().iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), kinds().len());
    }
}
