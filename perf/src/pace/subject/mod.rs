//! Recorders that are paced: writeflush, and what a program would use today. One file each.

mod chunk_queue;
mod ours;
mod ring;
mod writer_thread;

use std::io;
use std::path::Path;

/// A recorder on its way.
pub(crate) trait Recorder {
    /// Takes a record or, where there is no room, does not; never waits for the disk. Returns
    /// whether it took it.
    fn offer(&mut self, record: &[u8]) -> io::Result<bool>;

    /// Asks that everything taken so far becomes durable; does not wait.
    fn fence(&mut self) -> io::Result<()>;

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
    /// With this much memory for bytes that are not on disk.
    pub(crate) open: fn(&Path, memory: u64) -> io::Result<Box<dyn Recorder>>,
}

/// All there are.
pub(crate) const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "writeflush-thread",
        about: "this crate, its driver on a thread that sleeps when there is nothing to do",
        open: |path, memory| ours::open(path, memory, writeflush::Drive::Thread),
    },
    Subject {
        name: "writeflush-poll",
        about: "this crate, its driver on a thread that never sleeps",
        open: |path, memory| ours::open(path, memory, writeflush::Drive::Poll),
    },
    Subject {
        name: "ring",
        about: "a lock-free ring of bytes, and a thread that copies from it into a BufWriter",
        open: ring::open,
    },
    Subject {
        name: "queue",
        about: "chunks in a queue under a lock, and a thread that writes them",
        open: chunk_queue::open,
    },
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn every_recorder_writes_what_it_took_and_refuses_what_has_no_room() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
        for subject in SUBJECTS {
            let path = folder.path().join(subject.name);
            let mut recorder = (subject.open)(&path, 64 << 10).unwrap();
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
            assert!(!recorder.offer(&vec![0; 1 << 20]).unwrap(), "{}", subject.name);
            recorder.close().unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "{}", subject.name);
        }
    }
}
