//! Chunks in a queue under a lock, and a thread that writes them: what OBS Studio's buffered
//! serializer does, with a limit.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::writer_thread::{Shared, WAY, WriterThread};
use super::{Recorder, Setup};

#[derive(Default)]
struct Chunks {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    chunks: Mutex<Chunks>,
    news: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ChunkQueue {
    queue: Arc<Queue>,
    memory: usize,
    thread: WriterThread,
}

pub(super) fn open(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    let queue = Arc::new(Queue::default());
    let theirs = queue.clone();
    let thread = WriterThread::spawn(setup, move |file, shared| write(file, &theirs, shared))?;
    Ok(Box::new(ChunkQueue { queue, memory: setup.memory as usize, thread }))
}

fn write(mut file: std::fs::File, queue: &Queue, shared: &Shared) -> io::Result<()> {
    let mut written = 0;
    loop {
        let chunk = {
            let mut chunks = queue.lock();
            let idle = || !shared.ending.load(Ordering::Acquire) && !shared.sync_due(written);
            while chunks.waiting.is_empty() && idle() {
                chunks = queue.news.wait(chunks).unwrap_or_else(PoisonError::into_inner);
            }
            chunks.waiting.pop_front()
        };
        if let Some(chunk) = &chunk {
            file.write_all(chunk)?;
            written += chunk.len() as u64;
            queue.lock().bytes -= chunk.len();
            shared.written.store(written, Ordering::Release);
        }
        let done = chunk.is_none() && shared.ending.load(Ordering::Acquire);
        if shared.sync_due(written) || done {
            file.sync_data()?;
            shared.synced(written);
        }
        if done {
            return Ok(());
        }
    }
}

impl Recorder for ChunkQueue {
    fn memory(&self) -> u64 {
        self.memory as u64
    }

    fn way(&self) -> String {
        WAY.into()
    }

    fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
        self.thread.check()?;
        let mut chunks = self.queue.lock();
        if chunks.bytes + record.len() > self.memory {
            return Ok(false);
        }
        chunks.bytes += record.len();
        chunks.waiting.push_back(record.to_vec());
        drop(chunks);
        self.thread.took(record.len());
        self.queue.news.notify_one();
        Ok(true)
    }

    fn fence(&mut self) -> io::Result<()> {
        let _chunks = self.queue.lock(); // so that the thread does not fall asleep meanwhile
        self.thread.want_all();
        self.queue.news.notify_one();
        Ok(())
    }

    fn written(&self) -> u64 {
        self.thread.shared.written.load(Ordering::Acquire)
    }

    fn durable(&self) -> u64 {
        self.thread.shared.durable.load(Ordering::Acquire)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let Self { queue, thread, .. } = *self;
        thread.end(|| {
            let _chunks = queue.lock();
            queue.news.notify_one();
        })
    }
}
