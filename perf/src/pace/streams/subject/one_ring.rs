//! The floor: one io_uring and one thread for all files, written by hand.

use std::io;

use writeflush_workloads::floor::ManyFiles;

use super::{Recorder, Setup};

struct OneRing {
    files: ManyFiles,
    direct: bool,
}

pub(super) fn open(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    let start = |direct| {
        let (ledger, mut through) = (setup.ledger.clone(), vec![0; setup.paths.len()]);
        let known = move |stream: usize, fences| {
            ledger.know_all(stream, through[stream], fences);
            through[stream] = fences;
        };
        ManyFiles::open(setup.paths, setup.memory, direct, known)
    };
    // As the writers do: direct where the file system allows it.
    let (files, direct) = match start(true) {
        Ok(files) => (files, true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => (start(false)?, false),
        Err(error) => return Err(error),
    };
    Ok(Box::new(OneRing { files, direct }))
}

impl Recorder for OneRing {
    fn memory(&self) -> u64 {
        self.files.memory()
    }

    fn way(&self) -> String {
        let path = if self.direct { "direct I/O" } else { "the page cache" };
        format!("io_uring by hand with {path}: a write and a linked fdatasync for each fence")
    }

    fn offer(&mut self, stream: usize, record: &[u8]) -> io::Result<bool> {
        self.files.push(stream, record)
    }

    fn fence(&mut self, stream: usize) -> io::Result<()> {
        self.files.fence(stream)
    }

    fn check(&mut self) -> io::Result<()> {
        self.files.check()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.files.close()
    }
}
