//! What a program does without this crate: a thread for each file, which takes what has come,
//! writes it through a `BufWriter`, and syncs when it is asked.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Recorder, Setup};

/// What a thread has to do.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Fences, since the beginning.
    asked: u64,
    ending: bool,
}

#[derive(Debug)]
struct Station {
    inbox: Mutex<Inbox>,
    news: Condvar,
    failed: AtomicBool,
    /// Bytes of the inbox: as many are with the thread.
    room: usize,
}

impl Station {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is something to do: the bytes, the fences asked for, and whether they are
    /// the last.
    fn wait(&self, taken: &mut Vec<u8>, fences: u64) -> (u64, bool) {
        let mut inbox = self.inbox();
        while inbox.bytes.len() < self.room / 2 && inbox.asked == fences && !inbox.ending {
            inbox = self.news.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut inbox.bytes, taken);
        (inbox.asked, inbox.ending)
    }
}

struct Threads(Vec<(Arc<Station>, JoinHandle<io::Result<()>>)>);

pub(super) fn open(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    let mut threads = Threads(Vec::new());
    for (stream, path) in setup.paths.iter().enumerate() {
        match start(path, setup, stream) {
            Ok(thread) => threads.0.push(thread),
            Err(error) => {
                let _ = Box::new(threads).close();
                return Err(error);
            }
        }
    }
    Ok(Box::new(threads))
}

fn start(
    path: &Path,
    setup: &Setup<'_>,
    stream: usize,
) -> io::Result<(Arc<Station>, JoinHandle<io::Result<()>>)> {
    let file = OpenOptions::new().write(true).open(path)?;
    let room = (setup.memory / 2) as usize;
    let (mut inbox, mut taken) = (Inbox::default(), Vec::new());
    for memory in [&mut inbox.bytes, &mut taken] {
        memory.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // Faulted in, as the others'.
        memory.resize(room, 0);
        memory.clear();
    }
    let failed = AtomicBool::new(false);
    let station =
        Arc::new(Station { inbox: Mutex::new(inbox), news: Condvar::new(), failed, room });
    let (theirs, ledger) = (station.clone(), setup.ledger.clone());
    let work = move || {
        let result = write(&theirs, file, taken, |from, to| ledger.know_all(stream, from, to));
        theirs.failed.store(result.is_err(), Ordering::Release);
        result
    };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(work)?;
    Ok((station, thread))
}

fn write(
    station: &Station,
    file: File,
    mut taken: Vec<u8>,
    known: impl Fn(u64, u64),
) -> io::Result<()> {
    let mut writer = BufWriter::new(file);
    let mut fences = 0;
    loop {
        taken.clear();
        let (asked, ending) = station.wait(&mut taken, fences);
        writer.write_all(&taken)?;
        if asked > fences || ending {
            writer.flush()?;
            writer.get_ref().sync_data()?;
            known(fences, asked);
            fences = asked;
        }
        if ending {
            return Ok(());
        }
    }
}

impl Recorder for Threads {
    fn memory(&self) -> u64 {
        let each = |(station, _): &(Arc<Station>, _)| 2 * station.room as u64 + (8 << 10);
        self.0.iter().map(each).sum()
    }

    fn way(&self) -> String {
        "write and fdatasync, through the page cache".into()
    }

    fn offer(&mut self, stream: usize, record: &[u8]) -> io::Result<bool> {
        let station = &self.0[stream].0;
        let mut inbox = station.inbox();
        if inbox.bytes.len() + record.len() > station.room {
            return Ok(false);
        }
        inbox.bytes.extend_from_slice(record);
        let much = inbox.bytes.len() >= station.room / 2;
        drop(inbox);
        if much {
            station.news.notify_one();
        }
        Ok(true)
    }

    fn fence(&mut self, stream: usize) -> io::Result<()> {
        let station = &self.0[stream].0;
        station.inbox().asked += 1;
        station.news.notify_one();
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        match self.0.iter().position(|(station, _)| station.failed.load(Ordering::Acquire)) {
            Some(stream) => Err(io::Error::other(format!("the thread of stream {stream} failed"))),
            None => Ok(()),
        }
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        for (station, _) in &self.0 {
            station.inbox().ending = true;
            station.news.notify_one();
        }
        let mut first = Ok(());
        for (_, thread) in self.0 {
            let result = thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            first = first.and(result);
        }
        first
    }
}
