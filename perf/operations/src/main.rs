//! The operations of writeflush that its gate measures, each as a user would do it.
//!
//! | name | once | what it shows |
//! |---|---|---|
//! | `push` | 256 bytes into room, while nobody else runs | the push alone |
//! | `flush` | `write_flush` of 4 KiB into a written file, everything at its default | a durable record |
//! | `caller` | the same, driven by the caller | without a hand-over to a thread |
//! | `growing` | the same as `flush`, each of which makes the file longer | metadata in every fence |
//! | `batch` | 64 pushes of 256 bytes, then a flush | a fence over many pushes |
//! | `patch` | 64 bytes of the header overwritten, then a flush | a patch |
//! | `wake` | a push that fills a buffer of 4 KiB while the driver sleeps | the hand-over |
//!
//! `flush/floor`, `caller/floor`, `growing/floor` and `batch/floor` make the same bytes durable by
//! plain system calls.

mod floor;
#[cfg(feature = "inject")]
mod inject;
mod log;

use std::path::Path;
use std::process::ExitCode;

use writeflush::{BackendChoice, Drive, Options};
use writeflush_operation::{Begin, Failure, Kind, Operation, serve};
use writeflush_workloads::FileState;

use self::log::Log;

const PUSH: usize = 256;
const RECORD: usize = 4096;
const BATCH: u64 = 64;
const BATCHED: usize = BATCH as usize * PUSH;
/// Of a header.
const PATCH: usize = 64;

const KINDS: [Kind; 11] = [
    Kind::new("push", push).bytes(PUSH as u64),
    durable("flush", RECORD, |folder| flush(folder, FileState::Written, Drive::Thread)),
    durable("caller", RECORD, |folder| flush(folder, FileState::Written, Drive::Caller)),
    durable("growing", RECORD, |folder| flush(folder, FileState::Growing, Drive::Thread)),
    durable("batch", BATCHED, batch),
    durable("patch", PATCH, patch),
    Kind::new("wake", wake).bytes(RECORD as u64),
    durable("flush/floor", RECORD, |folder| record(folder, FileState::Written, RECORD)),
    durable("caller/floor", RECORD, |folder| record(folder, FileState::Written, RECORD)),
    durable("growing/floor", RECORD, |folder| record(folder, FileState::Growing, RECORD)),
    durable("batch/floor", BATCHED, |folder| record(folder, FileState::Written, BATCHED)),
];

/// One fence over so many bytes.
const fn durable(name: &'static str, bytes: usize, begin: Begin) -> Kind {
    Kind::new(name, begin).fences(1).bytes(bytes as u64)
}

fn record(folder: &Path, state: FileState, bytes: usize) -> Begun {
    Ok(Box::new(floor::Record::begin(folder, state, bytes)?))
}

fn main() -> ExitCode {
    serve(&KINDS)
}

type Begun = Result<Box<dyn Operation>, Failure>;

/// As it is measured: with what a test has planted in it.
fn begun(operation: impl Operation + 'static, folder: &Path) -> Begun {
    #[cfg(feature = "inject")]
    return inject::into(operation, folder);
    #[cfg(not(feature = "inject"))]
    {
        let _ = folder;
        Ok(Box::new(operation))
    }
}

/// Whether this promise is to be broken.
fn skips_the_flush() -> bool {
    #[cfg(feature = "inject")]
    return inject::skips_the_flush();
    #[cfg(not(feature = "inject"))]
    false
}

struct Push {
    log: Log,
    record: [u8; PUSH],
}

/// With this backend and drive only calls that wait write anything: in a push nobody else runs.
fn push(folder: &Path) -> Begun {
    let options = Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    let log = Log::new(folder, FileState::Written, options)?;
    begun(Push { log, record: [0x5a; PUSH] }, folder)
}

impl Operation for Push {
    /// Half of the memory, all of which is free after a flush.
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.log.writer()?.flush()?;
        self.log.room(PUSH as u64, times.min((1 << 20) / PUSH as u64))
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.log.writer()?.try_write(&self.record)?;
        Ok(())
    }

    fn repeat(&mut self, times: u64) -> Result<(), Failure> {
        let writer = self.log.writer()?; // looked up once: it would cost as much as a push
        for _ in 0..times {
            writer.try_write(&self.record)?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), Failure> {
        self.log.close()
    }
}

struct Flush {
    log: Log,
    record: [u8; RECORD],
}

fn flush(folder: &Path, state: FileState, drive: Drive) -> Begun {
    let log = Log::new(folder, state, Options::new().drive(drive))?;
    begun(Flush { log, record: [0x5a; RECORD] }, folder)
}

impl Operation for Flush {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.log.room(RECORD as u64, times)
    }

    fn run(&mut self) -> Result<(), Failure> {
        let writer = self.log.writer()?;
        if skips_the_flush() {
            writer.try_write(&self.record)?;
        } else {
            writer.write_flush(&self.record)?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), Failure> {
        self.log.close()
    }
}

struct Batch {
    log: Log,
    record: [u8; PUSH],
}

fn batch(folder: &Path) -> Begun {
    let log = Log::new(folder, FileState::Written, Options::new())?;
    begun(Batch { log, record: [0x5a; PUSH] }, folder)
}

impl Operation for Batch {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.log.room(BATCH * PUSH as u64, times)
    }

    fn run(&mut self) -> Result<(), Failure> {
        let writer = self.log.writer()?;
        for _ in 0..BATCH {
            writer.try_write(&self.record)?;
        }
        if !skips_the_flush() {
            writer.flush()?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), Failure> {
        self.log.close()
    }
}

struct Patch {
    log: Log,
    header: [u8; PATCH],
}

fn patch(folder: &Path) -> Begun {
    let mut log = Log::new(folder, FileState::Written, Options::new())?;
    log.writer()?.write_flush(&[0; RECORD])?;
    begun(Patch { log, header: [0x5a; PATCH] }, folder)
}

impl Operation for Patch {
    fn run(&mut self) -> Result<(), Failure> {
        let control = self.log.writer()?.control();
        control.patch(0, &self.header)?;
        if !skips_the_flush() {
            control.flush()?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), Failure> {
        self.log.close()
    }
}

struct Wake {
    log: Log,
    record: [u8; RECORD],
}

fn wake(folder: &Path) -> Begun {
    let options = Options::new().buffer_size(RECORD).buffers(64);
    let log = Log::new(folder, FileState::Written, options)?;
    begun(Wake { log, record: [0x5a; RECORD] }, folder)
}

impl Operation for Wake {
    /// After a flush the driver has nothing to do, and sleeps.
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.log.writer()?.flush()?;
        self.log.room(RECORD as u64, times.min(1))
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.log.writer()?.try_write(&self.record)?;
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), Failure> {
        self.log.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever measures hands the files around.
    #[test]
    fn every_operation_runs_again_in_a_folder_that_others_have_used() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).expect("a folder");
        for kind in KINDS.iter().chain(&KINDS) {
            let mut operation = kind.begin(folder.path()).expect("a beginning");
            for times in [1, 3] {
                let now = operation.prepare(times).expect("room");
                operation.repeat(now).expect("a run");
            }
            operation.end().expect("an end");
        }
    }
}
