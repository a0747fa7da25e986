//! A driver that serves any number of streams, which join and leave while it runs.
//!
//! Whoever wants something of it leaves a [`Visit`]: its thread lets it in between two turns, and where
//! callers drive whoever has the driver, or comes next.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, TryLockError};

use super::own_thread::{Pace, PanicGuard, see_to_what_is_due, sleep};
use super::run::{CloseLater, Driving, Mark, Seat, after_panic, leak};
use super::thread::{set_up, spawn};
use super::{Engine, Leaves, Streams};
use crate::error::Error;
use crate::fork::Process;
use crate::options::{Drive, ThreadSetup};
use crate::stream::{Doorbell, Stream};
#[cfg(all(unix, not(any(loom, shuttle))))]
use crate::sync::Instant;
use crate::sync::thread::JoinHandle;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence, ignore_poison, mpsc};

/// What somebody does with the engine, on its thread.
type Visit = Box<dyn FnOnce(&mut Engine) + Send>;

/// The side of everybody else. The driver ends with it.
pub(crate) struct Hub {
    visits: Arc<Visits>,
    seat: Arc<Seat>,
    /// `None` where callers drive, and at the end.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Of callers: whether one who has no need to wait may still turn it.
    eager: Option<bool>,
    budget: Budget,
    process: Process,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// Memory that the streams of a driver may take together.
#[derive(Debug)]
struct Budget {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    fn take(&self, bytes: u64) -> Result<(), String> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        if taken + bytes <= self.limit {
            return Ok(());
        }
        self.give_back(bytes);
        Err(format!(
            "the driver's writers may take {} bytes of memory together, {taken} are taken, and this \
             one needs {bytes}: give fewer or smaller buffers, or raise the driver's memory limit",
            self.limit
        ))
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Those who wait to be let in.
pub(super) struct Visits {
    any: AtomicBool,
    /// `None` once the thread has ended.
    waiting: Mutex<Option<VecDeque<Visit>>>,
    /// Nobody comes any more.
    over: AtomicBool,
    doorbell: Arc<Doorbell>,
}

impl Visits {
    pub(super) fn new(doorbell: Arc<Doorbell>) -> Self {
        Self {
            any: AtomicBool::new(false),
            waiting: Mutex::new(Some(VecDeque::new())),
            over: AtomicBool::new(false),
            doorbell,
        }
    }

    /// Gives the visit back if the thread has ended.
    fn add(&self, visit: Visit) -> Result<(), Visit> {
        let mut waiting = ignore_poison(self.waiting.lock());
        let Some(waiting) = &mut *waiting else { return Err(visit) };
        waiting.push_back(visit);
        self.any.store(true, Ordering::Release);
        self.doorbell.ring();
        Ok(())
    }

    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Lets them in where nobody has the engine who would: of whoever comes, and of whoever has let go
    /// of it. Who waits for a fence and found it taken by this sleeps: so it wakes them.
    pub(super) fn let_in_where_free(&self, seat: &Seat) {
        // Of who comes and finds the engine taken, and of who gives it back and finds nobody, one sees
        // the other: the bell that a visit rings has the other fence.
        fence(Ordering::SeqCst);
        while self.is_any() {
            let streams = match seat.try_lock() {
                Ok(mut engine) => {
                    let Some(engine) = &mut *engine else { return };
                    self.let_in(engine);
                    engine.streams().clone()
                }
                Err(TryLockError::WouldBlock) => return, // then that one does it
                Err(TryLockError::Poisoned(poisoned)) => {
                    after_panic(seat, poisoned);
                    continue;
                }
            };
            streams.each(Stream::driver_is_free);
        }
    }

    /// Lets everybody in who waits.
    pub(super) fn let_in(&self, engine: &mut Engine) {
        while self.is_any() {
            let mut waiting = ignore_poison(self.waiting.lock());
            let visit = waiting.as_mut().and_then(VecDeque::pop_front);
            self.any
                .store(waiting.as_ref().is_some_and(|left| !left.is_empty()), Ordering::Release);
            drop(waiting);
            if let Some(visit) = visit {
                visit(engine);
            }
        }
    }

    fn is_over(&self, streams: &Streams) -> bool {
        self.over.load(Ordering::SeqCst) && !self.is_any() && streams.is_empty()
    }
}

/// Turns away whoever comes when the thread has ended, in whatever way.
struct Ends(Arc<Visits>);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(ignore_poison(self.0.waiting.lock()).take());
    }
}

impl Hub {
    /// Fails where no thread can be started, or the backend can't work on it.
    pub(crate) fn start(
        mut engine: Engine,
        drive: Drive,
        setup: &ThreadSetup,
        memory_limit: usize,
    ) -> io::Result<Arc<Self>> {
        let visits = Arc::new(Visits::new(engine.doorbell().clone()));
        let seat = Arc::new(Seat::default());
        let (thread, eager) = match drive {
            Drive::Caller => {
                engine.begin()?;
                let eager = engine.is_asynchronous();
                *ignore_poison(seat.lock()) = Some(engine);
                (None, Some(eager))
            }
            Drive::Thread | Drive::Poll => {
                let polling = drive == Drive::Poll;
                let work = Work { visits: visits.clone(), seat: seat.clone(), polling };
                let (tell, begun) = mpsc::channel();
                let setup = setup.clone();
                let thread = spawn("writeflush", move || work.run(engine, &setup, &tell))?;
                begun.recv().map_err(io::Error::other)??;
                (Some(thread), None)
            }
        };
        let (thread, process) = (Mutex::new(thread), Process::this());
        let budget = Budget { limit: memory_limit as u64, taken: AtomicU64::new(0) };
        Ok(Arc::new(Self { visits, seat, thread, eager, budget, process }))
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(super) fn visits(&self) -> &Arc<Visits> {
        &self.visits
    }

    pub(super) fn eager(&self) -> Option<bool> {
        self.eager
    }

    /// Bytes of memory that its streams have taken.
    pub(crate) fn memory(&self) -> u64 {
        self.budget.taken.load(Ordering::Relaxed)
    }

    /// Does something with the engine, where that turns, and waits for that.
    ///
    /// # Errors
    /// `InWaker` on a thread that drives, `Forked` in a child; `Closed` if the driver's thread has
    /// ended, which it does early only by a panic.
    pub(crate) fn visit<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if !self.process.is_this() {
            return Err(Error::Forked);
        }
        if Driving::is_any() {
            return Err(Error::InWaker);
        }
        let (tell, told) = mpsc::channel();
        let visit = Box::new(move |engine: &mut Engine| drop(tell.send(what(engine))));
        self.visits.add(visit).map_err(|_| Error::Closed)?;
        if self.eager.is_some() {
            self.visits.let_in_where_free(&self.seat);
        }
        told.recv().map_err(|_| Error::Closed)
    }

    /// For so much memory, before it is taken: what its streams may take together is limited.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved, Error> {
        self.budget.take(bytes).map_err(|sentence| Error::Options(sentence.into()))?;
        Ok(Reserved { hub: self.clone(), bytes })
    }
}

impl Drop for Hub {
    /// Of the last who knows it: nobody can join, and whoever was there has left, or has left the rest
    /// of his close to the thread.
    fn drop(&mut self) {
        if !self.process.is_this() {
            return leak(&mut self.seat); // ring and thread are the parent's
        }
        self.visits.over.store(true, Ordering::SeqCst);
        self.visits.doorbell.ring();
        let thread = ignore_poison(self.thread.lock()).take();
        if let Some(thread) = thread
            && !Driving::is_any()
        {
            let _ = thread.join(); // of a panic everybody has heard
        }
    }
}

/// Memory of a driver's budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    hub: Arc<Hub>,
    bytes: u64,
}

impl Reserved {
    /// When the stream has joined.
    pub(crate) fn at(self, place: usize) -> Membership {
        Membership { reserved: self, place }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.hub.budget.give_back(self.bytes);
    }
}

/// A stream's place in a driver that it shares.
#[derive(Debug)]
pub(crate) struct Membership {
    reserved: Reserved,
    place: usize,
}

impl Membership {
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.reserved.hub
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn seat(&self) -> &Seat {
        &self.hub().seat
    }

    pub(super) fn mark(&self) -> Mark {
        Mark::of(&*self.hub().visits)
    }

    /// Waits until nothing of the stream is in the kernel's hands, and its file is let go.
    pub(super) fn leave(&self) {
        let _ = self.leaves().recv(); // an error if the thread has ended: then everything is let go
    }

    /// As [`leave`](Self::leave), but no longer than until `by`.
    #[cfg(all(unix, not(any(loom, shuttle))))]
    pub(super) fn leave_by(&self, by: Instant) {
        let left = by.saturating_duration_since(Instant::now());
        let _ = self.leaves().recv_timeout(left);
    }

    fn leaves(&self) -> mpsc::Receiver<()> {
        let (tell, gone) = mpsc::channel();
        self.ask_to_leave(Box::new(move || {
            let _ = tell.send(()); // he may have waited long enough
        }));
        gone
    }

    /// `told` is called when the stream has left; dropped, if the thread has ended.
    pub(super) fn ask_to_leave(&self, told: Box<dyn FnOnce() + Send>) {
        let place = self.place;
        let visit = move |engine: &mut Engine| engine.leave(place, Leaves::Told(told));
        drop(self.hub().visits.add(Box::new(visit)));
    }

    /// For whoever must not wait: the thread sees to it that all is durable, and another one does the
    /// rest of the close.
    pub(super) fn leave_later(&self, stream: &Stream, close: CloseLater) {
        let place = self.place;
        let close = Arc::new(Mutex::new(Some(close)));
        let kept = close.clone();
        let visit = Box::new(move |engine: &mut Engine| {
            if let Some(close) = ignore_poison(kept.lock()).take() {
                engine.leave(place, Leaves::Closes(close));
            }
        });
        if self.hub().visits.add(visit).is_err() {
            stream.fail(Error::Closed);
            if let Some(close) = ignore_poison(close.lock()).take() {
                (close.finish)();
            }
        }
    }
}

/// What the thread needs.
struct Work {
    visits: Arc<Visits>,
    seat: Arc<Seat>,
    polling: bool,
}

impl Work {
    fn run(self, mut engine: Engine, setup: &ThreadSetup, tell: &mpsc::Sender<io::Result<()>>) {
        if let Err(error) = set_up(setup).and_then(|()| engine.begin()) {
            drop(engine);
            let _ = tell.send(Err(error));
            return;
        }
        let _ = tell.send(Ok(()));
        let _guard = PanicGuard(engine.streams().clone());
        let _ends = Ends(self.visits.clone());
        let _driving = Driving::new(Mark::of(&*self.visits));
        match self.polling {
            true => self.poll(engine),
            false => self.sleep_and_wake(engine),
        }
    }

    /// Between two turns: who joins, and who leaves.
    fn see_to_visitors(&self, engine: &mut Engine) {
        self.visits.let_in(engine);
        engine.let_go();
    }

    fn poll(&self, mut engine: Engine) {
        let streams = engine.streams().clone();
        let mut pace = Pace::new();
        while !self.visits.is_over(&streams) {
            self.see_to_visitors(&mut engine);
            engine.turn_until(|| self.visits.is_any());
            engine.kick();
            engine.announce();
            if pace.relax() {
                see_to_what_is_due(&mut engine);
            }
        }
    }

    fn sleep_and_wake(&self, mut engine: Engine) {
        let streams = engine.streams().clone();
        let reason = || self.visits.is_any() || self.visits.is_over(&streams);
        while !self.visits.is_over(&streams) {
            self.see_to_visitors(&mut engine);
            see_to_what_is_due(&mut engine);
            engine.turn_until(|| self.visits.is_any());
            engine.announce();
            match sleep(engine, &self.seat, reason) {
                Some(rested) => engine = rested,
                None => return, // whoever had it has panicked, and everybody has heard
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_says_what_is_left() {
        let budget = Budget { limit: 100, taken: AtomicU64::new(0) };
        assert!(budget.take(60).is_ok());
        let refused = budget.take(41).unwrap_err();
        assert!(refused.contains("100") && refused.contains("60 are taken"), "{refused}");
        assert!(budget.take(40).is_ok());
        budget.give_back(60);
        assert!(budget.take(60).is_ok());
    }

    /// A panic of the thread is everybody's typed error, and nobody waits for it.
    #[cfg(unix)]
    #[test]
    fn a_panic_fails_everybody_and_turns_new_ones_away() {
        for drive in [Drive::Thread, Drive::Poll] {
            let directory = tempfile::tempdir().unwrap();
            let driver = crate::DriverOptions::new().drive(drive).start().unwrap();
            let options = crate::Options::new().driver(&driver);
            let [mut first, mut second] = ["first", "second"]
                .map(|name| options.create(directory.path().join(name)).unwrap());
            first.write_flush(b"well").unwrap();
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let gone = driver.hub().visit(|_| panic!("planted")).unwrap_err();
            std::panic::set_hook(hook);
            assert!(matches!(gone, Error::Closed), "{gone}");
            for writer in [&mut first, &mut second] {
                let failed = writer.write_flush(b"ill").unwrap_err();
                assert!(failed.to_string().contains("panicked"), "{drive:?}: {failed}");
            }
            let late = options.create(directory.path().join("third")).unwrap_err();
            assert!(matches!(late, Error::Closed), "{late}");
            for writer in [first, second] {
                let left = writer.positions();
                let whole = left.accepted == left.durable;
                assert_eq!(writer.close().is_ok(), whole, "{drive:?}: {left:?}");
            }
        }
    }
}
