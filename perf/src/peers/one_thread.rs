//! Runtimes with a ring to each thread: what they open stays on the thread that opened it.

use std::cell::{Cell, RefCell};
use std::io;

use compio::io::AsyncWriteAtExt;
use send_wrapper::SendWrapper;
use writeflush_workloads::FileState;
use writeflush_workloads::subject::{Place, Subject};

use super::refused;

const ONE: &str = "its files belong to one thread";

struct Compio {
    runtime: compio::runtime::Runtime,
    file: RefCell<compio::fs::File>,
    at: Cell<u64>,
}

pub(crate) fn compio(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    if place.committers > 1 {
        return refused(place, ONE);
    }
    let runtime = compio::runtime::Runtime::new()?;
    let options = compio::fs::OpenOptions::new().write(true).clone();
    let file = runtime.block_on(options.open(place.path))?;
    let opened = Compio { runtime, file: RefCell::new(file), at: Cell::new(0) };
    Ok(Box::new(OneThread(SendWrapper::new(opened))))
}

struct Glommio {
    executor: glommio::LocalExecutor,
    file: glommio::io::DmaFile,
    at: Cell<u64>,
}

pub(crate) fn glommio(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    if place.committers > 1 {
        return refused(place, ONE);
    }
    if !place.record.is_multiple_of(4096) {
        return refused(place, "its direct files take multiples of 4096 bytes");
    }
    let executor = glommio::LocalExecutorBuilder::default().make().map_err(of_glommio)?;
    let options = {
        let mut options = glommio::io::OpenOptions::new();
        options.write(true).create(place.state == FileState::Growing);
        options
    };
    let file = executor.run(options.dma_open(place.path)).map_err(of_glommio)?;
    let opened = Glommio { executor, file, at: Cell::new(0) };
    Ok(Box::new(OneThread(SendWrapper::new(opened))))
}

/// Its errors are not `Sync`.
fn of_glommio(error: glommio::GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

/// Panics on any other thread; with one committer there is none.
struct OneThread<T>(SendWrapper<T>);

impl Subject for OneThread<Compio> {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        let mut file = self.0.file.borrow_mut();
        let at = self.0.at.replace(self.0.at.get() + record.len() as u64);
        self.0.runtime.block_on(async {
            file.write_all_at(record.to_vec(), at).await.0?;
            file.sync_data().await
        })
    }
}

impl Subject for OneThread<Glommio> {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        let at = self.0.at.replace(self.0.at.get() + record.len() as u64);
        let file = &self.0.file;
        let written = self.0.executor.run(async {
            let mut buffer = file.alloc_dma_buffer(record.len());
            buffer.as_bytes_mut().copy_from_slice(record);
            let written = file.write_at(buffer, at).await?;
            file.fdatasync().await?;
            Ok::<usize, glommio::GlommioError<()>>(written)
        });
        match written.map_err(of_glommio)? {
            n if n == record.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
