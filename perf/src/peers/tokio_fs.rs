//! `tokio::fs`: a write and a sync on its pool of blocking threads.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use writeflush_workloads::subject::{Place, Subject};

struct TokioFile {
    runtime: Runtime,
    file: Mutex<tokio::fs::File>,
}

pub(crate) fn open(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let file = std::fs::OpenOptions::new().write(true).open(place.path)?;
    Ok(Box::new(TokioFile { runtime, file: Mutex::new(file.into()) }))
}

impl Subject for TokioFile {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        self.runtime.block_on(async {
            let mut file = self.file.lock().await;
            file.write_all(record).await?;
            file.flush().await?;
            file.sync_data().await
        })
    }
}
