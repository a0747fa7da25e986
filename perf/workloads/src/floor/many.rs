//! One io_uring for many files that grow: what a recorder would write by hand, and no more. A
//! producer copies into memory and asks for fences; one thread writes and flushes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use io_uring::{IoUring, opcode, squeue, types};

use super::{Aligned, BLOCK};

/// Files that one thread writes through one ring, each with memory of its own.
#[derive(Debug)]
pub struct ManyFiles {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

/// What the producer and the thread share.
#[derive(Debug)]
struct Shared {
    _memory: Aligned,
    base: *mut u8,
    /// Bytes of memory of each file.
    each: u64,
    lanes: Box<[Lane]>,
    news: Mutex<News>,
    /// An eventfd that the ring reads.
    bell: File,
    failed: AtomicBool,
}

// SAFETY: the memory of a lane is written by the producer between `accepted` and `free` plus its
// size only, and read by the thread and the kernel before `accepted` only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// One file, as both sides see it. The byte at position p lies at p mod its memory.
#[derive(Debug, Default)]
struct Lane {
    accepted: AtomicU64,
    /// Fences that were asked for, since the beginning.
    asked: AtomicU64,
    /// Bytes before it are needed no more.
    free: AtomicU64,
    /// How far it was told that there is something to write.
    told: AtomicU64,
}

/// What the thread does not know yet.
#[derive(Debug, Default)]
struct News {
    /// Files with something to do.
    lanes: Vec<usize>,
    asleep: bool,
    ending: bool,
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the thread, and wakes it where it sleeps.
    fn tell(&self, what: impl FnOnce(&mut News)) -> io::Result<()> {
        let mut news = self.news();
        what(&mut news);
        if std::mem::take(&mut news.asleep) {
            drop(news);
            (&self.bell).write_one()?;
        }
        Ok(())
    }

    fn place(&self, lane: usize, position: u64) -> *mut u8 {
        self.base.wrapping_add(lane * self.each as usize + (position % self.each) as usize)
    }

    /// The pieces of memory that hold these positions of a file.
    fn pieces(&self, lane: usize, from: u64, to: u64) -> [(*mut u8, usize); 2] {
        let first = (to - from).min(self.each - from % self.each);
        let second = (self.place(lane, from + first), (to - from - first) as usize);
        [(self.place(lane, from), first as usize), second]
    }
}

trait WriteOne {
    fn write_one(self) -> io::Result<()>;
}

impl WriteOne for &File {
    fn write_one(mut self) -> io::Result<()> {
        io::Write::write_all(&mut self, &1u64.to_ne_bytes())
    }
}

impl ManyFiles {
    /// Takes over files that exist, each with `memory` bytes (whole blocks, two at least), for
    /// writes from their beginning. `known(file, n)` is called on the thread when the first `n`
    /// fences of a file are known to be through.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(
        paths: &[PathBuf],
        memory: u64,
        direct: bool,
        known: impl FnMut(usize, u64) + Send + 'static,
    ) -> io::Result<Self> {
        let flags = super::flags(direct, false);
        let files =
            paths.iter().map(|path| super::open(path, flags)).collect::<io::Result<Vec<_>>>()?;
        let each = memory.max(2 * BLOCK as u64).next_multiple_of(BLOCK as u64);
        let mut memory = Aligned::huge(each as usize * files.len());
        let shared = Arc::new(Shared {
            base: memory.bytes().as_mut_ptr(),
            _memory: memory,
            each,
            lanes: files.iter().map(|_| Lane::default()).collect(),
            news: Mutex::default(),
            bell: bell()?,
            failed: AtomicBool::new(false),
        });
        let (theirs, (ready, begun)) = (shared.clone(), mpsc::channel());
        let work = move || {
            let driver = Driver::new(files, theirs.clone(), direct, known);
            // A ring belongs to the thread that has made it.
            let (driver, answer) = match driver {
                Ok(driver) => (Some(driver), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = ready.send(answer);
            let result = driver.map_or(Ok(()), |mut driver| driver.run());
            theirs.failed.store(result.is_err(), Ordering::Release);
            result
        };
        let thread = std::thread::Builder::new().name("one ring".into()).spawn(work)?;
        begun.recv().unwrap_or_else(|_| Err(io::Error::other("the ring's thread has died")))?;
        Ok(Self { shared, thread })
    }

    /// Bytes of memory, of all files together.
    pub fn memory(&self) -> u64 {
        self.shared.each * self.shared.lanes.len() as u64
    }

    /// Takes a record or, where there is no room, does not. Returns whether it took it.
    ///
    /// # Errors
    /// The thread can't be woken.
    pub fn push(&mut self, file: usize, record: &[u8]) -> io::Result<bool> {
        let (shared, lane) = (&self.shared, &self.shared.lanes[file]);
        let accepted = lane.accepted.load(Ordering::Relaxed);
        let end = accepted + record.len() as u64;
        if end - lane.free.load(Ordering::Acquire) > shared.each {
            return Ok(false);
        }
        let mut record = record;
        for (place, len) in shared.pieces(file, accepted, end) {
            let (now, later) = record.split_at(len);
            // SAFETY: room that nobody else touches until `accepted` says otherwise.
            unsafe { place.copy_from_nonoverlapping(now.as_ptr(), len) };
            record = later;
        }
        lane.accepted.store(end, Ordering::Release);
        // Nobody asks for a fence, and half of the memory waits.
        if end - lane.told.load(Ordering::Relaxed) >= shared.each / 2 {
            lane.told.store(end, Ordering::Relaxed);
            shared.tell(|news| news.lanes.push(file))?;
        }
        Ok(true)
    }

    /// Asks for a fence over all that a file was given.
    ///
    /// # Errors
    /// The thread can't be woken.
    pub fn fence(&mut self, file: usize) -> io::Result<()> {
        let lane = &self.shared.lanes[file];
        lane.told.store(lane.accepted.load(Ordering::Relaxed), Ordering::Relaxed);
        lane.asked.fetch_add(1, Ordering::Release);
        self.shared.tell(|news| news.lanes.push(file))
    }

    /// Whether all is well so far.
    ///
    /// # Errors
    /// The thread has failed; [`close`](Self::close) says why.
    pub fn check(&self) -> io::Result<()> {
        match self.shared.failed.load(Ordering::Acquire) {
            true => Err(io::Error::other("the ring's thread has failed")),
            false => Ok(()),
        }
    }

    /// Makes everything durable, gives each file its exact length, and ends the thread.
    ///
    /// # Errors
    /// What went wrong, now or before.
    pub fn close(self) -> io::Result<()> {
        self.shared.tell(|news| news.ending = true)?;
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the ring's thread panicked")))
    }
}

fn bell() -> io::Result<File> {
    // SAFETY: no pointers; the answer is checked.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that is nobody's yet.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// The thread's side.
struct Driver<F> {
    /// First, so that it is gone before the memory that it may write.
    ring: IoUring,
    shared: Arc<Shared>,
    tracks: Vec<Track>,
    direct: bool,
    known: F,
    rung: Box<u64>,
    in_flight: usize,
}

/// One file, as the thread sees it.
struct Track {
    file: File,
    /// Bytes that it had at the beginning.
    existing: u64,
    written: u64,
    flushed: u64,
    /// Fences that are through.
    fences: u64,
    flight: Option<Flight>,
    /// There was news while something was in flight.
    again: bool,
    /// What is written of a block that is still filling: the block itself goes on filling.
    tail: Aligned,
    parts: Box<[libc::iovec; 3]>,
}

/// A write and a flush, or one of the two.
#[derive(Clone, Copy, Debug)]
struct Flight {
    to: u64,
    /// Bytes that the write has to have written.
    bytes: usize,
    /// Fences that the flush answers; `None`: there is no flush.
    fences: Option<u64>,
    /// Completions that are to come.
    left: usize,
}

/// The number of the bell's read.
const BELL: u64 = u64::MAX;

impl<F: FnMut(usize, u64)> Driver<F> {
    fn new(files: Vec<File>, shared: Arc<Shared>, direct: bool, known: F) -> io::Result<Self> {
        let entries = (2 * files.len() as u32 + 2).next_power_of_two();
        // The cheapest mode (Linux 6.1), or what there is.
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        let ring = match ring {
            Ok(ring) => ring,
            Err(_) => IoUring::builder().build(entries)?,
        };
        let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&numbers)?;
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let track = |file: File| {
            let existing = file.metadata()?.len();
            let (tail, parts) = (Aligned::new(BLOCK), Box::new([none; 3]));
            let (written, flushed, fences) = (0, 0, 0);
            Ok(Track {
                file,
                existing,
                written,
                flushed,
                fences,
                flight: None,
                again: false,
                tail,
                parts,
            })
        };
        let tracks = files.into_iter().map(track).collect::<io::Result<_>>()?;
        Ok(Self { ring, shared, tracks, direct, known, rung: Box::new(0), in_flight: 0 })
    }

    fn run(&mut self) -> io::Result<()> {
        let result = self.work();
        // Nobody frees what the kernel still has.
        while self.in_flight > 0 && self.ring.submit_and_wait(1).is_ok() {
            self.in_flight -= self.ring.completion().filter(|one| one.user_data() != BELL).count();
        }
        result?;
        for (track, lane) in self.tracks.iter().zip(&self.shared.lanes) {
            let end = lane.accepted.load(Ordering::Acquire);
            track.file.set_len(end.max(track.existing))?;
            track.file.sync_all()?;
        }
        Ok(())
    }

    fn work(&mut self) -> io::Result<()> {
        let mut lanes = Vec::new();
        let mut ended = false;
        self.listen()?;
        loop {
            let mut news = self.shared.news();
            std::mem::swap(&mut lanes, &mut news.lanes);
            let ends = news.ending && !std::mem::replace(&mut ended, news.ending);
            news.asleep = lanes.is_empty() && !ends;
            drop(news);
            lanes.drain(..).try_for_each(|lane| self.look(lane))?;
            if ends {
                (0..self.tracks.len()).try_for_each(|lane| self.look(lane))?;
            }
            if ended && self.in_flight == 0 {
                return Ok(());
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => drop(answer?),
            }
            self.reap()?;
        }
    }

    fn push(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        // SAFETY: what the entries point to lives in the tracks and in the shared memory, which
        // are kept until all that is in flight has completed; the bell's word is in a box that
        // the ring does not outlive.
        let pushed = unsafe { self.ring.submission().push_multiple(entries) };
        pushed.map_err(|_| io::Error::other("the ring is full"))
    }

    fn listen(&mut self) -> io::Result<()> {
        let (bell, word) = (types::Fd(self.shared.bell.as_raw_fd()), &raw mut *self.rung);
        self.push(&[opcode::Read::new(bell, word.cast(), 8).build().user_data(BELL)])
    }

    /// Sends what a file has to have written and flushed, if nothing of it is on its way.
    fn look(&mut self, index: usize) -> io::Result<()> {
        let lane = &self.shared.lanes[index];
        // In this order: a fence is for what was accepted before it.
        let asked = lane.asked.load(Ordering::Acquire);
        let to = lane.accepted.load(Ordering::Acquire);
        let track = &mut self.tracks[index];
        if track.flight.is_some() {
            track.again = true;
            return Ok(());
        }
        track.again = false;
        let writes = to > track.written;
        let flushes = asked > track.fences;
        if flushes && !writes && track.flushed == track.written {
            track.fences = asked;
            (self.known)(index, asked);
            return Ok(());
        }
        let file = types::Fixed(index as u32);
        let mut entries = Vec::with_capacity(2);
        let mut bytes = 0;
        if writes {
            let (from, parts) = track.lay_out(&self.shared, index, to, self.direct);
            bytes = track.parts[..parts].iter().map(|part| part.iov_len).sum();
            let parts = (track.parts.as_ptr(), parts as u32);
            let write = opcode::Writev::new(file, parts.0, parts.1).offset(from).build();
            let link = if flushes { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
            entries.push(write.flags(link).user_data(2 * index as u64));
        }
        if flushes {
            let flush = opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC);
            entries.push(flush.build().user_data(2 * index as u64 + 1));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let fences = flushes.then_some(asked);
        track.flight = Some(Flight { to, bytes, fences, left: entries.len() });
        self.in_flight += entries.len();
        self.push(&entries)
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some(completion) = { self.ring.completion().next() } {
            let (number, result) = (completion.user_data(), completion.result());
            if number == BELL {
                self.listen()?;
                continue;
            }
            self.in_flight -= 1;
            let index = (number / 2) as usize;
            let track = &mut self.tracks[index];
            let Some(flight) = &mut track.flight else { continue };
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            if number % 2 == 0 && result as usize != flight.bytes {
                return Err(io::Error::other("a write was cut short"));
            }
            flight.left -= 1;
            if flight.left == 0 {
                self.land(index)?;
            }
        }
        Ok(())
    }

    /// All that was in flight of a file has completed.
    fn land(&mut self, index: usize) -> io::Result<()> {
        let track = &mut self.tracks[index];
        let Some(flight) = track.flight.take() else { return Ok(()) };
        track.written = flight.to;
        let free = if self.direct { flight.to - flight.to % BLOCK as u64 } else { flight.to };
        self.shared.lanes[index].free.store(free, Ordering::Release);
        if let Some(fences) = flight.fences {
            (track.flushed, track.fences) = (flight.to, fences);
            (self.known)(index, fences);
        }
        if self.tracks[index].again { self.look(index) } else { Ok(()) }
    }
}

impl Track {
    /// What to write so that the file holds everything before `to`: from where on, and how many
    /// parts. Direct I/O takes whole blocks, with zeros behind the end.
    fn lay_out(&mut self, shared: &Shared, index: usize, to: u64, direct: bool) -> (u64, usize) {
        let block = if direct { BLOCK as u64 } else { 1 };
        let (from, whole) = (self.written - self.written % block, to - to % block);
        let mut parts = 0;
        for (base, len) in shared.pieces(index, from, whole.max(from)) {
            if len > 0 {
                self.parts[parts] = libc::iovec { iov_base: base.cast(), iov_len: len };
                parts += 1;
            }
        }
        if whole < to {
            let tail = self.tail.bytes();
            let len = (to - whole) as usize;
            // SAFETY: accepted bytes, which nobody changes; a block never wraps.
            unsafe { tail.as_mut_ptr().copy_from(shared.place(index, whole), len) };
            tail[len..].fill(0);
            let base = tail.as_mut_ptr().cast();
            self.parts[parts] = libc::iovec { iov_base: base, iov_len: tail.len() };
            parts += 1;
        }
        (from, parts)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Much more than the memory holds, in records that fit no block.
    #[test]
    fn every_file_is_what_it_was_given_and_every_fence_is_answered() {
        for direct in [true, false] {
            let folder = tempfile::tempdir_in(crate::scratch_dir()).unwrap();
            let paths: Vec<_> = (0..3).map(|n| folder.path().join(n.to_string())).collect();
            paths.iter().for_each(|path| drop(File::create(path).unwrap()));
            let answered: Arc<[AtomicU64; 3]> = Arc::default();
            let told = answered.clone();
            let known = move |file: usize, n| told[file].store(n, Ordering::Release);
            let mut files = ManyFiles::open(&paths, 3 * BLOCK as u64, direct, known).unwrap();
            assert_eq!(files.memory(), 9 * BLOCK as u64);
            let mut expected = vec![Vec::new(); 3];
            let begun = Instant::now();
            for n in 0..300u32 {
                let (file, record) = (n as usize % 3, vec![n as u8 | 1; 1 + n as usize * 7 % 1900]);
                while !files.push(file, &record).unwrap() {
                    assert!(begun.elapsed() < Duration::from_secs(60));
                    std::thread::yield_now();
                }
                expected[file].extend(&record);
                if n % 4 == 0 {
                    files.fence(file).unwrap();
                }
            }
            while (0..3).any(|file| answered[file].load(Ordering::Acquire) < 25) {
                assert!(begun.elapsed() < Duration::from_secs(60));
                std::thread::yield_now();
            }
            files.push(0, b"the last word").unwrap();
            expected[0].extend(b"the last word");
            files.close().unwrap();
            for (path, expected) in paths.iter().zip(expected) {
                assert!(std::fs::read(path).unwrap() == expected, "direct: {direct}");
            }
        }
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let folder = tempfile::tempdir_in(crate::scratch_dir()).unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap();
        let paths = [path];
        let mut files = ManyFiles::open(&paths, 8192, true, |_, _| ()).unwrap();
        assert!(!files.push(0, &[1; 8193]).unwrap());
        assert!(files.push(0, &[1; 8192]).unwrap());
        files.close().unwrap();
        assert_eq!(std::fs::metadata(&paths[0]).unwrap().len(), 8192);
    }
}
