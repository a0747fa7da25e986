//! Who turns the driver: a thread of its own, or whoever waits.

use std::cell::Cell;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use super::Driver;
use super::company::Company;
use super::inline::Commit;
use super::thread::{is_real_time, set_up, spawn};
use crate::canary::Slip;
use crate::error::Error;
use crate::file::{NoSignal, file_limit};
use crate::options::{Drive, ThreadSetup};
use crate::stream::Stream;
use crate::sync::thread::{JoinHandle, yield_now};
use crate::sync::{
    AtomicBool, Event, Instant, Mutex, MutexGuard, Ordering, clear_poison, ignore_poison, mpsc,
    spin_loop, thread_local,
};

/// Turns the driver of one stream.
pub(crate) struct Runner {
    stream: Arc<Stream>,
    who: Who,
}

enum Who {
    /// The driver is taken by whoever waits; `None` once retired.
    Caller {
        driver: Seat,
        eager: bool,
        company: Company,
        /// The length of files is limited.
        limited: bool,
        /// Whoever drives looks at the clock for fences by time.
        looks: bool,
    },
    Thread {
        handle: Mutex<Option<JoinHandle<()>>>,
        end: Arc<End>,
        seat: Arc<Seat>,
        /// The length of files is limited.
        limited: bool,
    },
}

/// Where the driver is to be had: of a thread of its own, only while that sleeps without it.
type Seat = Mutex<Option<Driver>>;

/// What the driver's thread is told about its end.
#[derive(Default)]
struct End {
    stop: AtomicBool,
    rest: Mutex<Rest>,
}

/// The close that a waker began, for the driver's thread to finish.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    Close(CloseLater),
    /// The thread has ended.
    TooLate,
}

impl End {
    /// Told to stop, and nothing is left to do, the close that a waker began included; or a failure,
    /// after which there is nothing to do at all.
    fn is_reached(&self, stream: &Stream) -> bool {
        stream.is_lost()
            || self.stop.load(Ordering::SeqCst)
                && match &*ignore_poison(self.rest.lock()) {
                    Rest::Close(close) => close.is_due(stream),
                    Rest::Nothing | Rest::TooLate => stream.is_content(),
                }
    }
}

/// A close whose caller must not wait.
pub(crate) struct CloseLater {
    /// Held while a patch is let in.
    pub(crate) patching: Arc<Mutex<()>>,
    /// What follows when everything is durable, or after a failure.
    pub(crate) finish: Box<dyn FnOnce() + Send>,
}

impl CloseLater {
    /// Everything is durable, the patch that was under way included. Asks for what is missing.
    fn is_due(&self, stream: &Stream) -> bool {
        if self.patching.try_lock().is_err() {
            return false; // its end rings the doorbell
        }
        let (position, patches) = (stream.sequencer.accepted(), stream.patches_queued());
        let due = stream.durable() >= position && stream.patches_durable() >= patches;
        let wanted = stream.wanted();
        if wanted.durable < position || wanted.patches < patches {
            stream.want_durable(position, patches);
        }
        due
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    Failed,
    TimedOut,
    /// Not at all: see [`Runner::may_wait`].
    InWaker,
    /// The wait would be for a thread that this process doesn't have.
    NotOurs,
}

impl Runner {
    /// Fails where no thread can be started, or the backend can't work on it.
    pub(crate) fn new(
        mut driver: Driver,
        stream: Arc<Stream>,
        drive: Drive,
        setup: &ThreadSetup,
    ) -> std::io::Result<Self> {
        let who = match drive {
            Drive::Caller => {
                driver.begin()?;
                let eager = driver.is_asynchronous();
                let company = Company::default();
                let limited = file_limit().is_some();
                let looks = driver.fences_by_time();
                Who::Caller { driver: Mutex::new(Some(driver)), eager, company, limited, looks }
            }
            Drive::Thread | Drive::Poll => {
                let (end, seat) = (Arc::new(End::default()), Arc::new(Seat::default()));
                let polling = drive == Drive::Poll;
                let work = Thread { end: end.clone(), seat: seat.clone(), polling };
                let (tell, begun) = mpsc::channel();
                let setup = setup.clone();
                let handle = spawn("writeflush", move || work.run(driver, &setup, &tell))?;
                begun.recv().map_err(std::io::Error::other)??;
                let limited = file_limit().is_some();
                Who::Thread { handle: Mutex::new(Some(handle)), end, seat, limited }
            }
        };
        Ok(Self { stream, who })
    }

    /// Called when a buffer has filled up: gets it on its way without waiting for the disk. A
    /// blocking backend would wait, so its callers leave that to whoever needs room.
    pub(crate) fn nudge(&self) {
        match &self.who {
            Who::Caller { eager: true, .. } if self.poll() => {}
            _ => self.stream.ring_doorbell(),
        }
    }

    /// Waits until `ready`, a failure, or the deadline. `event` is what announces the change.
    pub(crate) fn wait(
        &self,
        event: &Event,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> Waited {
        let mut knows_whose = false;
        loop {
            let ticket = event.ticket();
            if let Some(ended) = self.ended(deadline, &ready) {
                return ended;
            }
            if !self.may_wait() {
                return Waited::InWaker;
            }
            if let Who::Caller { driver, company, limited, looks, .. } = &self.who
                && let Some(mut lead) = self.take(driver, *limited)
            {
                lead.look(*looks);
                self.lead(&mut lead, company, deadline, &ready);
                continue;
            }
            // Once, beside a system call that sleeps. Whoever leads makes one a commit, and does no
            // harm in a child that shares this memory: he is a thread like any other there.
            if !knows_whose && self.stream.is_not_ours() {
                return Waited::NotOurs;
            }
            knows_whose = true;
            event.sleep(ticket, deadline);
        }
    }

    /// Waits for a fence that was asked for, and that the driver has not been told of: carries it out
    /// here, as far as there is nothing else under way, or tells the driver. `event` announces its end.
    pub(crate) fn commit(&self, event: &Event, ready: impl Fn() -> bool) -> Waited {
        while self.ended(None, &ready).is_none() {
            if !self.commit_inline() {
                self.stream.tell_of_fence();
                break;
            }
        }
        self.wait(event, None, ready)
    }

    /// One step of the fence that is asked for; says whether there was one for this thread.
    fn commit_inline(&self) -> bool {
        if !self.may_wait() {
            return false;
        }
        let (seat, limited) = match &self.who {
            // A child that ends in the midst of it would never answer.
            Who::Thread { .. } if self.stream.is_lent() => return false,
            Who::Thread { seat, limited, .. } => (&**seat, *limited),
            Who::Caller { company, .. } if company.is_group() => return false,
            Who::Caller { driver, limited, .. } => (driver, *limited),
        };
        let Some(commit) = self.hand_out(seat, limited) else { return false };
        let whole = {
            let _unsignalled = NoSignal::where_limited(limited);
            commit.carry_out()
        };
        match whole {
            true => self.bring_back(seat, limited),
            // A failure is everybody's: tasks hear of it where their wakers may run.
            false => self.stream.ring_doorbell(),
        }
        true
    }

    fn hand_out(&self, seat: &Seat, limited: bool) -> Option<Commit> {
        let mut lead = self.take(seat, limited)?;
        if let Who::Caller { company, looks, .. } = &self.who {
            lead.look(*looks);
            company.gather(|| self.stream.counters.fences_asked.get(), || true);
        }
        lead.driver()?.hand_out()
    }

    fn bring_back(&self, seat: &Seat, limited: bool) {
        let mut lead = self.take(seat, limited);
        let Some(driver) = lead.as_mut().and_then(Lead::driver) else {
            return self.stream.ring_doorbell(); // whoever drives takes the answer
        };
        driver.bring_back();
        match &self.who {
            Who::Caller { company, .. } => {
                driver.announce();
                let asked = self.stream.counters.fences_asked.get();
                company.disband(self.stream.progress.sleepers() + 1, asked, driver.last_fence());
            }
            Who::Thread { .. } => {
                if !driver.announce_to_threads() || driver.needs_its_thread() {
                    drop(lead); // first: it takes the driver at once
                    self.stream.ring_doorbell();
                }
            }
        }
    }

    /// Whether this thread may wait for the driver: not in a waker, which runs on the thread of a
    /// driver. Of another one too, since two of them could wait for each other.
    pub(crate) fn may_wait(&self) -> bool {
        match self.who {
            Who::Caller { .. } => true, // it drives
            Who::Thread { .. } => !Driving::is_any(),
        }
    }

    /// Takes the driver, if nobody else has it.
    fn take<'a>(&'a self, driver: &'a Seat, limited: bool) -> Option<Lead<'a>> {
        if self.stream.is_left_behind() {
            return None;
        }
        match driver.try_lock() {
            Ok(driver) => {
                let driving = Some(Driving::new(&self.stream));
                let unsignalled = Some(NoSignal::where_limited(limited));
                let hands_on = matches!(self.who, Who::Caller { .. });
                let driver = Some(driver);
                Some(Lead { driver, driving, unsignalled, hands_on, stream: &self.stream })
            }
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => {
                clear_poison(driver);
                self.stream.fail(panicked(&self.stream));
                None
            }
        }
    }

    fn ended(&self, deadline: Option<Instant>, ready: &impl Fn() -> bool) -> Option<Waited> {
        if ready() {
            Some(Waited::Ready)
        } else if self.stream.is_lost() {
            Some(Waited::Failed)
        } else if deadline.is_some_and(|at| Instant::now() >= at) {
            Some(Waited::TimedOut)
        } else {
            None
        }
    }

    fn lead(
        &self,
        lead: &mut Lead<'_>,
        company: &Company,
        deadline: Option<Instant>,
        ready: &impl Fn() -> bool,
    ) {
        let Some(driver) = lead.driver() else {
            return self.stream.fail(Error::Closed);
        };
        let asked = || self.stream.counters.fences_asked.get();
        company.gather(asked, || driver.is_urgent());
        loop {
            // What has come up since is the next leader's, who gathers first.
            driver.turn_until(ready);
            if self.ended(deadline, ready).is_some() {
                break;
            }
            driver.announce();
            driver.wait(deadline);
        }
        driver.kick();
        company.disband(self.stream.progress.sleepers() + 1, asked(), driver.last_fence());
    }

    /// Moves things on without waiting, where callers drive; returns whether it could.
    pub(crate) fn poll(&self) -> bool {
        self.poll_and_pause(Duration::ZERO)
    }

    /// As [`poll`](Self::poll), for whoever polls again at once: sleeps as long at most, where there
    /// is nothing but something to be tried again later.
    pub(crate) fn poll_and_pause(&self, longest: Duration) -> bool {
        let Who::Caller { driver, limited, looks, .. } = &self.who else { return false };
        let Some(mut lead) = self.take(driver, *limited) else { return false };
        lead.look(*looks);
        if let Some(driver) = lead.driver() {
            driver.turn();
            driver.announce();
            if !longest.is_zero() {
                driver.pause(longest);
            }
        }
        true
    }

    /// As if nobody had asked for anything for long, and all that is under way had ended, where there is no clock and the caller drives.
    /// Says whether nothing was under way.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(crate) fn rest(&self) -> bool {
        let Who::Caller { driver, .. } = &self.who else { return false };
        let mut lead = self.take(driver, false);
        let Some(driver) = lead.as_mut().and_then(Lead::driver) else { return false };
        for _ in 0..2 {
            let at = driver.looks_at();
            at.into_iter().for_each(|at| driver.look(at));
            driver.turn();
            for _ in 0..STEPS_OF_A_REST {
                if !driver.is_at_rest() {
                    driver.wait(Some(Instant::now()));
                    driver.turn();
                }
            }
        }
        driver.cut_padding(Instant::now() + Duration::from_secs(1));
        driver.is_at_rest()
    }

    /// Whether work goes on only inside calls.
    pub(crate) fn needs_polling(&self) -> bool {
        matches!(self.who, Who::Caller { .. })
    }

    /// Ends the driver, once nothing is in the kernel's hands; file and ring are let go. Only where
    /// one [may wait](Self::may_wait).
    pub(crate) fn retire(&self) {
        match &self.who {
            Who::Caller { driver, .. } => {
                let driver = ignore_poison(driver.lock()).take();
                if let Some(mut driver) = driver {
                    driver.settle();
                }
            }
            Who::Thread { handle, end, .. } => {
                end.stop.store(true, Ordering::SeqCst);
                self.stream.ring_doorbell();
                let handle = ignore_poison(handle.lock()).take();
                if let Some(handle) = handle {
                    let _ = handle.join(); // a panic in it has poisoned the stream already
                }
            }
        }
    }

    /// As [`retire`](Self::retire), for whoever must not wait: the driver's thread does the rest of
    /// the close at its end.
    pub(crate) fn retire_later(&self, close: CloseLater) {
        let Who::Thread { end, .. } = &self.who else { return (close.finish)() };
        let mut rest = ignore_poison(end.rest.lock());
        if let Rest::TooLate = *rest {
            drop(rest);
            return (close.finish)(); // of a stream that has failed
        }
        *rest = Rest::Close(close);
        drop(rest);
        end.stop.store(true, Ordering::SeqCst);
        self.stream.ring_doorbell();
    }
}

#[cfg(all(unix, not(any(loom, shuttle))))]
impl Runner {
    /// Whether this very thread turns the driver at this moment: a waker runs, or a signal came.
    pub(crate) fn is_driven_here(&self) -> bool {
        Driving::is(&self.stream)
    }

    /// As [`retire`](Self::retire), for a process that ends, or that takes this code out of its
    /// memory: waits for the driver's thread, but only until `by`.
    pub(crate) fn retire_by(&self, by: Instant) {
        let Who::Thread { handle, end, .. } = &self.who else { return };
        end.stop.store(true, Ordering::SeqCst);
        self.stream.ring_doorbell();
        let Some(handle) = handle.try_lock().ok().and_then(|mut handle| handle.take()) else {
            return;
        };
        while !handle.is_finished() {
            if Instant::now() >= by {
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let _ = handle.join();
    }
}

impl Drop for Runner {
    /// A child leaks the driver: the ring is its parent's.
    fn drop(&mut self) {
        if self.stream.is_not_ours()
            && let Who::Caller { driver, .. } = &mut self.who
        {
            std::mem::forget(ignore_poison(driver.get_mut()).take());
        }
    }
}

/// Says, as long as it lives, that this thread turns the driver of a stream.
struct Driving {
    /// A waker may drive another stream meanwhile.
    before: *const Stream,
}

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom knows no const form")]
    static DRIVEN: Cell<*const Stream> = Cell::new(std::ptr::null());
}

impl Driving {
    fn new(stream: &Stream) -> Self {
        Self { before: DRIVEN.with(|driven| driven.replace(stream)) }
    }

    #[cfg(all(unix, not(any(loom, shuttle))))]
    fn is(stream: &Stream) -> bool {
        DRIVEN.with(|driven| std::ptr::eq(driven.get(), stream))
    }

    fn is_any() -> bool {
        DRIVEN.with(|driven| !driven.get().is_null())
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        DRIVEN.with(|driven| driven.set(self.before));
    }
}

/// The driver in the hands of a caller. Where callers drive, whoever failed to take it meanwhile
/// sleeps: so the end of every lead, however short, wakes them, and one of them takes the next.
struct Lead<'a> {
    driver: Option<MutexGuard<'a, Option<Driver>>>,
    driving: Option<Driving>,
    unsignalled: Option<NoSignal>,
    /// To whoever waits for it; a driver with a thread of its own is that one's.
    hands_on: bool,
    stream: &'a Stream,
}

impl Lead<'_> {
    /// `None` once retired, or while its thread has it.
    fn driver(&mut self) -> Option<&mut Driver> {
        self.driver.as_mut()?.as_mut()
    }

    /// Asks for what is due by now, though nobody asks; `looks`: whether there is such a thing.
    fn look(&mut self, looks: bool) {
        if looks && let Some(driver) = self.driver() {
            driver.look(Instant::now());
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        drop((self.driver.take(), self.driving.take(), self.unsignalled.take())); // first: who wakes has to find it free
        if self.hands_on && !Slip::SilentLead.is_planted() {
            self.stream.progress.announce();
            self.stream.space.announce();
        }
    }
}

/// The driver's own thread.
struct Thread {
    end: Arc<End>,
    seat: Arc<Seat>,
    polling: bool,
}

impl Thread {
    fn run(
        self,
        mut driver: Driver,
        setup: &ThreadSetup,
        tell: &mpsc::Sender<std::io::Result<()>>,
    ) {
        if let Err(error) = set_up(setup).and_then(|()| driver.begin()) {
            drop(driver); // first: whoever hears of it may open the file again at once
            let _ = tell.send(Err(error));
            return;
        }
        let _ = tell.send(Ok(()));
        let stream = driver.streams().next().cloned();
        let _driving = stream.as_deref().map(Driving::new);
        let guard = PanicGuard(driver.streams().cloned().collect());
        let driver = match self.polling {
            true => self.poll(driver),
            false => self.sleep_and_wake(driver),
        };
        if let Some(mut driver) = driver {
            driver.settle();
        }
        drop(guard);
        let rest = std::mem::replace(&mut *ignore_poison(self.end.rest.lock()), Rest::TooLate);
        if let Rest::Close(close) = rest {
            (close.finish)();
        }
    }

    fn is_over(&self, driver: &Driver) -> bool {
        driver.streams().all(|stream| self.end.is_reached(stream))
    }

    fn poll(&self, mut driver: Driver) -> Option<Driver> {
        let mut pace = Pace::new();
        while !self.is_over(&driver) {
            driver.turn();
            driver.announce();
            if pace.relax() {
                look(&mut driver);
                cut_padding(&mut driver);
            }
        }
        Some(driver)
    }

    fn sleep_and_wake(&self, mut driver: Driver) -> Option<Driver> {
        let streams: Vec<_> = driver.streams().cloned().collect();
        let fences = || streams.iter().map(|stream| stream.counters.fences_done.get()).sum::<u64>();
        let asked = || streams.iter().map(|stream| stream.counters.fences_asked.get()).sum();
        let company = Company::default();
        while !self.is_over(&driver) {
            look(&mut driver);
            let before = fences();
            driver.turn_until(|| fences() > before);
            if fences() > before {
                // A fence has ended: the next one begins when those who waited had a moment.
                driver.kick();
                let sleepers = streams.iter().map(|stream| stream.progress.sleepers()).sum();
                company.disband(sleepers, asked(), driver.last_fence());
                driver.announce();
                company.gather(asked, || driver.is_urgent());
            } else {
                driver.announce();
                driver = self.sleep(driver, &streams)?;
                cut_padding(&mut driver);
            }
        }
        Some(driver)
    }

    /// Until there is something to do; meanwhile whoever waits may take the driver, if nothing is
    /// under way. `None` if he has panicked with it.
    fn sleep(&self, mut driver: Driver, streams: &[Arc<Stream>]) -> Option<Driver> {
        let over = || streams.iter().all(|stream| self.end.is_reached(stream));
        let until = driver.cut_at().into_iter().chain(driver.looks_at()).min();
        let Some(bell) = driver.leave_for_sleep(until, over) else {
            driver.wait_unless(until, over);
            return Some(driver);
        };
        *ignore_poison(self.seat.lock()) = Some(driver);
        bell.sleep(until);
        let Ok(mut seat) = self.seat.lock() else {
            streams.iter().for_each(|stream| stream.fail(panicked(stream)));
            return ignore_poison(self.seat.lock()).take();
        };
        let mut driver = seat.take();
        driver.iter_mut().for_each(Driver::wakes_up);
        driver
    }
}

fn look(driver: &mut Driver) {
    if let Some(at) = driver.looks_at() {
        let now = Instant::now();
        if now >= at {
            driver.look(now);
        }
    }
}

/// In idle time the length on disk becomes what a reader may believe.
fn cut_padding(driver: &mut Driver) {
    if driver.cut_at().is_some() {
        driver.cut_padding(Instant::now());
    }
}

/// Pauses of a polling driver before it lets another thread of this core run: a few microseconds.
/// The kernel ends a direct write in a worker on the core that the device interrupted, and lets a
/// thread that never yields go on for 100 µs and more first (Linux 6.18): with 256 pauses a durable
/// write took 263 µs, with 8 it takes 84.
const PAUSES: u32 = 8;

/// How long a polling driver sleeps where it would else yield, if it has a real-time policy: then a
/// yield lets nobody run but its equals, and the kernel's workers, which end what it waits for,
/// would get what the kernel takes from such threads by force: 50 ms of each second.
const NAP: Duration = Duration::from_micros(50);

/// Yields, after which a polling driver looks again whether its policy has changed.
const LOOK: u32 = 1000;

/// After which what is still under way never ends: the medium is full.
#[cfg(all(test, unix, not(any(loom, shuttle))))]
const STEPS_OF_A_REST: u32 = 100;

/// The pauses of a polling driver.
struct Pace {
    idle: u32,
    yields: u32,
    real_time: bool,
}

impl Pace {
    fn new() -> Self {
        Self { idle: 0, yields: 0, real_time: is_real_time() }
    }

    /// Short enough to see a completion within a microsecond, and long enough to leave the
    /// producer's cache lines alone. Says now and then that there is time for something else.
    fn relax(&mut self) -> bool {
        for _ in 0..32 {
            spin_loop();
        }
        self.idle += 1;
        if self.idle <= PAUSES {
            return false;
        }
        self.idle = 0;
        match self.real_time {
            true => std::thread::sleep(NAP),
            false => yield_now(),
        }
        self.yields += 1;
        if self.yields == LOOK {
            *self = Self::new();
        }
        true
    }
}

/// A panic of the driver (a bug) fails its streams, so that nobody waits for ever.
struct PanicGuard(Vec<Arc<Stream>>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.iter().for_each(|stream| stream.fail(panicked(stream)));
        }
    }
}

fn panicked(stream: &Stream) -> Error {
    let error = std::io::Error::other("the driver panicked; please report this");
    Error::io(crate::error::Operation::Wait, &stream.path, error)
}
