//! Recorders that are paced: writeflush, and what a program would use today. One file each.

mod chunk_queue;
mod ours;
mod ring;
mod segments;
mod writer_thread;

use std::io;
use std::path::Path;

pub(super) use self::ours::buffers;
use writeflush::{BackendChoice, Drive};
use writeflush_workloads::FileState;

/// What a recorder is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// A file in this state, or none where it is to grow.
    pub(crate) path: &'a Path,
    pub(crate) state: FileState,
    /// For bytes that are not yet written, at least.
    pub(crate) memory: u64,
    /// Of writeflush.
    pub(crate) backend: BackendChoice,
    /// Bytes of a segment, for who writes such.
    pub(crate) split: u64,
}

/// A recorder on its way.
pub(crate) trait Recorder {
    /// The bytes that it really has for what is not yet written.
    fn memory(&self) -> u64;

    /// How bytes get to the disk here, and what durable means, for people.
    fn way(&self) -> String;

    /// Takes a record or, where there is no room, does not; never waits for the disk. Returns
    /// whether it took it.
    fn offer(&mut self, record: &[u8]) -> io::Result<bool>;

    /// Asks that everything taken so far becomes durable; does not wait.
    fn fence(&mut self) -> io::Result<()>;

    /// Every byte before has left the recorder's memory: the kernel has it.
    fn written(&self) -> u64;

    /// Every byte before is durable.
    fn durable(&self) -> u64;

    /// Makes everything durable and ends.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// A recorder before it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Of writeflush.
    pub(crate) drive: Option<Drive>,
    /// In many files, which are new each time.
    pub(crate) is_split: bool,
    pub(crate) open: fn(&Setup<'_>) -> io::Result<Box<dyn Recorder>>,
}

/// All there are.
pub(crate) const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "writeflush-thread",
        about: "this crate, its driver on a thread that sleeps when there is nothing to do",
        drive: Some(Drive::Thread),
        is_split: false,
        open: |setup| ours::open(setup, Drive::Thread),
    },
    Subject {
        name: "writeflush-poll",
        about: "this crate, its driver on a thread that never sleeps",
        drive: Some(Drive::Poll),
        is_split: false,
        open: |setup| ours::open(setup, Drive::Poll),
    },
    Subject {
        name: "writeflush-segments",
        about: "this crate, its driver on a thread, in files of --split bytes",
        drive: Some(Drive::Thread),
        is_split: true,
        open: segments::open,
    },
    Subject {
        name: "ring",
        about: "a lock-free ring of bytes, and a thread that copies from it into a BufWriter",
        drive: None,
        is_split: false,
        open: ring::open,
    },
    Subject {
        name: "queue",
        about: "chunks in a queue under a lock, and a thread that writes them",
        drive: None,
        is_split: false,
        open: chunk_queue::open,
    },
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    fn setup(path: &Path, state: FileState) -> Setup<'_> {
        let backend = BackendChoice::Auto;
        Setup { path, state, memory: 64 << 10, backend, split: 100_000 }
    }

    /// What a recorder has left, in one file or in many.
    fn recorded(folder: &Path, subject: &Subject) -> Vec<u8> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_its = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match subject.is_split {
                true => name.starts_with("writeflush-segments-"),
                false => name == subject.name,
            }
        };
        let mut files: Vec<_> = files.filter(is_its).collect();
        files.sort();
        assert!(files.len() == 1 || subject.is_split && files.len() > 1, "{files:?}");
        files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_recorder_writes_what_it_took_and_refuses_what_has_no_room() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
        let cases = SUBJECTS.iter().flat_map(|s| FileState::ALL.map(|state| (s, state)));
        for (subject, state) in
            cases.filter(|(s, state)| !s.is_split || *state == FileState::Growing)
        {
            let path = folder.path().join(subject.name);
            state.prepare(&path, 64 * 4000).unwrap();
            let mut recorder = (subject.open)(&setup(&path, state)).unwrap();
            assert!(recorder.memory() >= 64 << 10 && !recorder.way().is_empty());
            let mut expected = Vec::new();
            let begun = Instant::now();
            for index in 0..64u8 {
                let record = [index; 4000];
                while !recorder.offer(&record).unwrap() {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{}", subject.name);
                    std::thread::yield_now();
                }
                expected.extend(record);
            }
            recorder.fence().unwrap();
            while recorder.durable() < expected.len() as u64 {
                assert!(begun.elapsed() < Duration::from_secs(30), "{}", subject.name);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(recorder.written(), expected.len() as u64, "{}", subject.name);
            assert!(!recorder.offer(&vec![0; 1 << 20]).unwrap_or(false), "{}", subject.name);
            recorder.close().unwrap();
            assert!(recorded(folder.path(), subject) == expected, "{}", subject.name);
        }
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
        let path = folder.path().join("file");
        for subject in SUBJECTS.iter().filter(|subject| subject.name != "queue") {
            let huge = Setup { memory: 1 << 46, ..setup(&path, FileState::Growing) };
            assert!((subject.open)(&huge).is_err(), "{}", subject.name);
        }
    }
}
