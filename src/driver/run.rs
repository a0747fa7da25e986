//! Who turns the driver of a stream: a thread of its own, one that others share, or whoever waits.

use std::cell::Cell;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use super::Engine;
use super::company::Company;
use super::inline::Commit;
use super::own_thread::Thread;
use super::shared::{Membership, Visits};
use super::thread::spawn;
use crate::canary::Slip;
use crate::error::Error;
use crate::file::{NoSignal, file_limit};
use crate::options::{Drive, ThreadSetup};
use crate::stream::Stream;
use crate::sync::thread::JoinHandle;
use crate::sync::{
    AtomicBool, Event, Instant, Mutex, MutexGuard, Ordering, clear_poison, ignore_poison, mpsc,
    thread_local,
};

/// Turns the driver of one stream.
pub(crate) struct Runner {
    stream: Arc<Stream>,
    /// Of the stream, among those of its driver.
    place: usize,
    who: Who,
}

enum Who {
    /// The driver is taken by whoever waits; `None` once retired.
    Caller {
        driver: Arc<Seat>,
        visits: Arc<Visits>,
        /// `None`: no other stream is served.
        member: Option<Membership>,
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
    /// A thread that serves others as well.
    Shared {
        member: Membership,
        /// The length of files is limited.
        limited: bool,
    },
}

/// Where the driver is to be had: of a thread of its own, only while that sleeps without it.
pub(super) type Seat = Mutex<Option<Engine>>;

/// What the driver's thread is told about its end.
#[derive(Default)]
pub(super) struct End {
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
    pub(super) fn is_reached(&self, stream: &Stream) -> bool {
        stream.is_lost()
            || self.stop.load(Ordering::SeqCst)
                && match &*ignore_poison(self.rest.lock()) {
                    Rest::Close(close) => close.is_due(stream),
                    Rest::Nothing | Rest::TooLate => stream.is_content(),
                }
    }

    /// The thread has ended: what is left of a close that a waker began is done, now or by whoever
    /// comes later.
    pub(super) fn rest(&self) {
        let rest = std::mem::replace(&mut *ignore_poison(self.rest.lock()), Rest::TooLate);
        if let Rest::Close(close) = rest {
            (close.finish)();
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
    pub(super) fn is_due(&self, stream: &Stream) -> bool {
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

impl Who {
    fn callers(
        driver: Arc<Seat>,
        visits: Arc<Visits>,
        member: Option<Membership>,
        eager: bool,
        looks: bool,
    ) -> Self {
        let (company, limited) = (Company::default(), file_limit().is_some());
        Self::Caller { driver, visits, member, eager, company, limited, looks }
    }
}

impl Runner {
    /// Of a driver that serves this stream alone. Fails where no thread can be started, or the backend
    /// can't work on it.
    pub(crate) fn new(
        mut driver: Engine,
        stream: Arc<Stream>,
        drive: Drive,
        setup: &ThreadSetup,
    ) -> std::io::Result<Self> {
        let who = match drive {
            Drive::Caller => {
                driver.begin()?;
                let eager = driver.is_asynchronous();
                let looks = driver.fences_by_time();
                let visits = Arc::new(Visits::new(driver.doorbell().clone()));
                let driver = Arc::new(Mutex::new(Some(driver)));
                Who::callers(driver, visits, None, eager, looks)
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
        Ok(Self { stream, place: 0, who })
    }

    /// Of a driver that this stream shares.
    pub(crate) fn sharing(member: Membership, stream: Arc<Stream>) -> Self {
        let (place, hub) = (member.place(), member.hub().clone());
        let who = match hub.eager() {
            Some(eager) => {
                let (driver, visits) = (hub.seat().clone(), hub.visits().clone());
                Who::callers(driver, visits, Some(member), eager, true)
            }
            None => Who::Shared { member, limited: file_limit().is_some() },
        };
        Self { stream, place, who }
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
            Who::Thread { .. } | Who::Shared { .. } if self.stream.is_lent() => return false,
            Who::Thread { seat, limited, .. } => (&**seat, *limited),
            Who::Shared { member, limited } => (member.seat(), *limited),
            Who::Caller { company, .. } if company.is_group() => return false,
            Who::Caller { driver, limited, .. } => (&**driver, *limited),
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
        lead.driver()?.hand_out(self.place)
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
            Who::Thread { .. } | Who::Shared { .. } => {
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
            Who::Thread { .. } | Who::Shared { .. } => !Driving::is_any(),
        }
    }

    /// Takes the driver, if nobody else has it.
    fn take<'a>(&'a self, driver: &'a Seat, limited: bool) -> Option<Lead<'a>> {
        if self.stream.is_left_behind() {
            return None;
        }
        match driver.try_lock() {
            Ok(mut driver) => {
                driver.iter_mut().for_each(|driver| driver.ask(self.place));
                let driving = Some(Driving::new(self.mark()));
                let unsignalled = Some(NoSignal::where_limited(limited));
                let stream = &self.stream;
                let hands_on = match &self.who {
                    Who::Caller { driver: seat, visits, member, .. } => {
                        Some(HandOn { seat, visits, shares: member.is_some() })
                    }
                    Who::Thread { .. } | Who::Shared { .. } => None,
                };
                Some(Lead { driver: Some(driver), driving, unsignalled, hands_on, stream })
            }
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => {
                after_panic(driver, poisoned);
                self.stream.fail(panicked(&self.stream));
                None
            }
        }
    }

    /// Of the thread that turns the driver.
    fn mark(&self) -> Mark {
        match &self.who {
            Who::Shared { member, .. } => member.mark(),
            Who::Caller { .. } | Who::Thread { .. } => Mark::of(&*self.stream),
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
        let visits = self.visits();
        loop {
            see_to_visitors(visits, driver);
            // What has come up since is the next leader's, who gathers first.
            driver.turn_until(ready);
            if self.ended(deadline, ready).is_some() {
                break;
            }
            driver.announce();
            driver.wait_unless(deadline, || visits.is_some_and(|visits| visits.is_any()));
        }
        driver.kick();
        company.disband(self.stream.progress.sleepers() + 1, asked(), driver.last_fence());
    }

    /// Of callers, who let them in.
    fn visits(&self) -> Option<&Visits> {
        match &self.who {
            Who::Caller { visits, .. } => Some(visits),
            Who::Thread { .. } | Who::Shared { .. } => None,
        }
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
        let visits = self.visits();
        if let Some(driver) = lead.driver() {
            see_to_visitors(visits, driver);
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
        // One look sees a byte, the next submits it.
        for _ in 0..2 {
            let at = driver.all_have_looked_at();
            at.into_iter().for_each(|at| driver.look(at));
            for _ in 0..STEPS_OF_A_REST {
                if !driver.turn() && driver.is_at_rest() {
                    break;
                }
                driver.wait(Some(driver.now()));
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
            Who::Caller { driver, member: None, .. } => {
                let driver = ignore_poison(driver.lock()).take();
                if let Some(mut driver) = driver {
                    driver.settle();
                }
            }
            Who::Caller { driver, member: Some(member), limited, .. } => {
                self.leave_callers(driver, member, *limited);
            }
            Who::Thread { handle, end, .. } => {
                end.stop.store(true, Ordering::SeqCst);
                self.stream.ring_doorbell();
                let handle = ignore_poison(handle.lock()).take();
                if let Some(handle) = handle {
                    let _ = handle.join(); // a panic in it has poisoned the stream already
                }
            }
            Who::Shared { member, .. } => member.leave(),
        }
    }

    /// Drives, or lets another caller drive, until nothing of this stream is in the kernel's hands,
    /// and its file is let go.
    fn leave_callers(&self, seat: &Seat, member: &Membership, limited: bool) {
        let gone = Arc::new(AtomicBool::new(false));
        let (told, stream) = (gone.clone(), self.stream.clone());
        member.ask_to_leave(Box::new(move || {
            told.store(true, Ordering::SeqCst);
            stream.progress.announce();
        }));
        let visits = self.visits();
        while !gone.load(Ordering::SeqCst) {
            let ticket = self.stream.progress.ticket();
            let Some(mut lead) = self.take(seat, limited) else {
                if !gone.load(Ordering::SeqCst) {
                    self.stream.progress.sleep(ticket, None);
                }
                continue;
            };
            let Some(engine) = lead.driver() else { return };
            see_to_visitors(visits, engine);
            engine.turn();
            engine.announce();
            engine.let_go();
            if !gone.load(Ordering::SeqCst) {
                engine.wait_unless(None, || visits.is_some_and(Visits::is_any));
            }
        }
    }

    /// As [`retire`](Self::retire), for whoever must not wait: the driver's thread does the rest of
    /// the close at its end.
    pub(crate) fn retire_later(&self, close: CloseLater) {
        let end = match &self.who {
            Who::Caller { .. } => return (close.finish)(),
            Who::Shared { member, .. } => return member.leave_later(&self.stream, close),
            Who::Thread { end, .. } => end,
        };
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
        Driving::is(self.mark())
    }

    /// As [`retire`](Self::retire), for a process that ends, or that takes this code out of its
    /// memory: waits for the driver's thread, but only until `by`.
    pub(crate) fn retire_by(&self, by: Instant) {
        let (handle, end) = match &self.who {
            Who::Caller { .. } => return,
            Who::Shared { member, .. } => return member.leave_by(by),
            Who::Thread { handle, end, .. } => (handle, end),
        };
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
            && let Who::Caller { driver, member: None, .. } = &mut self.who
        {
            leak(driver);
        }
    }
}

/// Says, as long as it lives, that this thread turns a driver.
pub(super) struct Driving {
    /// A waker may drive another stream meanwhile.
    before: Mark,
}

/// Of a driver: the address of something that is its own. Never followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(usize);

impl Mark {
    const NONE: Self = Self(0);

    pub(super) fn of<T>(own: &T) -> Self {
        Self(std::ptr::from_ref(own).addr())
    }
}

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom knows no const form")]
    static DRIVEN: Cell<Mark> = Cell::new(Mark::NONE);
}

impl Driving {
    pub(super) fn new(driver: Mark) -> Self {
        Self { before: DRIVEN.with(|driven| driven.replace(driver)) }
    }

    #[cfg(all(unix, not(any(loom, shuttle))))]
    fn is(driver: Mark) -> bool {
        DRIVEN.with(|driven| driven.get() == driver)
    }

    pub(super) fn is_any() -> bool {
        DRIVEN.with(|driven| driven.get() != Mark::NONE)
    }
}

/// Whether this thread turns a driver, as that of a waker does: it must not wait for one.
pub(crate) fn is_driving() -> bool {
    Driving::is_any()
}

impl Drop for Driving {
    fn drop(&mut self) {
        DRIVEN.with(|driven| driven.set(self.before));
    }
}

/// In a child: nobody else there has it.
pub(super) fn leak(seat: &mut Arc<Seat>) {
    if let Some(seat) = Arc::get_mut(seat) {
        std::mem::forget(ignore_poison(seat.get_mut()).take());
    }
}

/// The driver in the hands of a caller. Where callers drive, whoever failed to take it meanwhile
/// sleeps: so the end of every lead, however short, wakes them, and one of them takes the next.
struct Lead<'a> {
    driver: Option<MutexGuard<'a, Option<Engine>>>,
    driving: Option<Driving>,
    unsignalled: Option<NoSignal>,
    /// To whoever waits for it; a driver with a thread is that one's.
    hands_on: Option<HandOn<'a>>,
    stream: &'a Stream,
}

/// How callers hand a driver on.
struct HandOn<'a> {
    seat: &'a Seat,
    visits: &'a Visits,
    /// Those who wait may wait for another stream.
    shares: bool,
}

impl Lead<'_> {
    /// `None` once retired, or while its thread has it.
    fn driver(&mut self) -> Option<&mut Engine> {
        self.driver.as_mut()?.as_mut()
    }

    /// Asks for what is due by now, though nobody asks; `looks`: whether there is such a thing.
    fn look(&mut self, looks: bool) {
        if looks && let Some(driver) = self.driver() {
            driver.look(driver.now());
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let streams = match &self.hands_on {
            Some(HandOn { shares: true, .. }) => {
                self.driver().map(|driver| driver.streams().clone())
            }
            _ => None,
        };
        drop((self.driver.take(), self.driving.take(), self.unsignalled.take())); // first: who wakes has to find it free
        let Some(HandOn { seat, visits, .. }) = &self.hands_on else { return };
        visits.let_in_where_free(seat);
        if Slip::SilentLead.is_planted() {
            return;
        }
        match streams {
            Some(streams) => streams.each(Stream::driver_is_free),
            None => self.stream.driver_is_free(),
        }
    }
}

/// Lets in who joins, and lets go who leaves.
fn see_to_visitors(visits: Option<&Visits>, engine: &mut Engine) {
    if let Some(visits) = visits {
        visits.let_in(engine);
        engine.let_go();
    }
}

/// After which what is still under way never ends: the medium is full.
#[cfg(all(test, unix, not(any(loom, shuttle))))]
const STEPS_OF_A_REST: u32 = 100;

/// Whoever had the driver has panicked: all streams fail, and it can be taken again.
pub(super) fn after_panic<'a>(
    seat: &'a Seat,
    poisoned: PoisonError<MutexGuard<'a, Option<Engine>>>,
) {
    let streams = poisoned.into_inner().as_ref().map(|driver| driver.streams().clone());
    clear_poison(seat);
    streams.iter().for_each(|streams| streams.fail_all(panicked));
}

pub(super) fn panicked(stream: &Stream) -> Error {
    let error = std::io::Error::other("the driver panicked; please report this");
    Error::io(crate::error::Operation::Wait, &stream.path, error)
}
