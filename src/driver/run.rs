//! Who turns the driver: a thread of its own, or whoever waits.

use std::cell::Cell;
use std::sync::{Arc, TryLockError};

use super::Driver;
use super::company::Company;
use crate::canary::Slip;
use crate::error::Error;
use crate::options::Drive;
use crate::stream::Stream;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{
    AtomicBool, Event, Instant, Mutex, MutexGuard, Ordering, clear_poison, ignore_poison, mpsc,
    spin_loop, thread_local,
};

/// Turns the driver of one stream.
#[derive(Debug)]
pub(crate) struct Runner {
    stream: Arc<Stream>,
    who: Who,
}

#[derive(Debug)]
enum Who {
    /// The driver is taken by whoever waits; `None` once retired.
    Caller {
        driver: Mutex<Option<Driver>>,
        eager: bool,
        company: Company,
    },
    Thread {
        handle: Mutex<Option<JoinHandle<()>>>,
        stop: Arc<AtomicBool>,
    },
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    Failed,
    TimedOut,
}

impl Runner {
    /// Fails where no thread can be started, or the backend can't work on it.
    pub(crate) fn new(
        mut driver: Driver,
        stream: Arc<Stream>,
        drive: Drive,
    ) -> std::io::Result<Self> {
        let who = match drive {
            Drive::Caller => {
                driver.begin()?;
                let eager = driver.is_asynchronous();
                let company = Company::default();
                Who::Caller { driver: Mutex::new(Some(driver)), eager, company }
            }
            Drive::Thread | Drive::Poll => {
                let stop = Arc::new(AtomicBool::new(false));
                let work = Thread { driver, stop: stop.clone(), polling: drive == Drive::Poll };
                let (tell, begun) = mpsc::channel();
                let handle = thread::Builder::new()
                    .name("writeflush".into())
                    .spawn(move || work.run(&tell))?;
                begun.recv().map_err(std::io::Error::other)??;
                Who::Thread { handle: Mutex::new(Some(handle)), stop }
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
        loop {
            let ticket = event.ticket();
            if let Some(ended) = self.ended(deadline, &ready) {
                return ended;
            }
            if Driving::is(&self.stream) {
                return Waited::Failed; // the thread that would have to end this wait is this one
            }
            match &self.who {
                Who::Thread { .. } => event.sleep(ticket, deadline),
                Who::Caller { driver, company, .. } => match self.take(driver) {
                    Some(mut lead) => self.lead(&mut lead, company, deadline, &ready),
                    None => event.sleep(ticket, deadline),
                },
            }
        }
    }

    /// Takes the driver, if nobody else has it.
    fn take<'a>(&'a self, driver: &'a Mutex<Option<Driver>>) -> Option<Lead<'a>> {
        if self.stream.is_left_behind() {
            return None;
        }
        match driver.try_lock() {
            Ok(driver) => {
                let driving = Some(Driving::new(&self.stream));
                Some(Lead { driver: Some(driver), driving, stream: &self.stream })
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
        } else if self.stream.is_left_behind() || self.stream.failure().is_some() {
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
        if self.stream.is_left_behind() {
            return false;
        }
        let Who::Caller { driver, .. } = &self.who else { return false };
        let Some(mut lead) = self.take(driver) else { return false };
        if let Some(driver) = lead.driver() {
            driver.turn();
            driver.announce();
        }
        true
    }

    /// Whether work goes on only inside calls.
    pub(crate) fn needs_polling(&self) -> bool {
        matches!(self.who, Who::Caller { .. })
    }

    /// Ends the driver, once nothing is in the kernel's hands; file and ring are let go.
    ///
    /// On a thread that drives, which is where a waker runs, it only tells the driver to end.
    pub(crate) fn retire(&self) {
        let here = Driving::is(&self.stream);
        match &self.who {
            Who::Caller { .. } if here => {}
            Who::Caller { driver, .. } => {
                let driver = ignore_poison(driver.lock()).take();
                if let Some(mut driver) = driver {
                    driver.settle();
                }
            }
            Who::Thread { handle, stop } => {
                stop.store(true, Ordering::SeqCst);
                self.stream.ring_doorbell();
                if let Some(handle) = ignore_poison(handle.lock()).take()
                    && !here
                {
                    let _ = handle.join(); // a panic in it has poisoned the stream already
                }
            }
        }
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
        let Who::Thread { handle, stop } = &self.who else { return };
        stop.store(true, Ordering::SeqCst);
        self.stream.ring_doorbell();
        let Some(handle) = handle.try_lock().ok().and_then(|mut handle| handle.take()) else {
            return;
        };
        while !handle.is_finished() {
            if Instant::now() >= by {
                return;
            }
            thread::sleep(std::time::Duration::from_micros(100));
        }
        let _ = handle.join();
    }
}

impl Drop for Runner {
    /// A forked child leaks the driver: the ring is its parent's.
    fn drop(&mut self) {
        if self.stream.is_left_behind()
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

    fn is(stream: &Stream) -> bool {
        DRIVEN.with(|driven| std::ptr::eq(driven.get(), stream))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        DRIVEN.with(|driven| driven.set(self.before));
    }
}

/// The driver in the hands of a caller. Whoever failed to take it meanwhile sleeps: so the end of
/// every lead, however short, wakes them, and one of them takes the next.
struct Lead<'a> {
    driver: Option<MutexGuard<'a, Option<Driver>>>,
    driving: Option<Driving>,
    stream: &'a Stream,
}

impl Lead<'_> {
    /// `None` once retired.
    fn driver(&mut self) -> Option<&mut Driver> {
        self.driver.as_mut()?.as_mut()
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        drop((self.driver.take(), self.driving.take())); // first: who wakes has to find it free
        if !Slip::SilentLead.is_planted() {
            self.stream.progress.announce();
            self.stream.space.announce();
        }
        self.stream.wake_futures();
    }
}

/// The driver's own thread.
struct Thread {
    driver: Driver,
    stop: Arc<AtomicBool>,
    polling: bool,
}

impl Thread {
    fn run(mut self, tell: &mpsc::Sender<std::io::Result<()>>) {
        let begun = self.driver.begin();
        let failed = begun.is_err();
        let _ = tell.send(begun);
        if failed {
            return;
        }
        let stream = self.driver.streams().next().cloned();
        let _driving = stream.as_deref().map(Driving::new);
        let guard = PanicGuard(self.driver.streams().cloned().collect());
        if self.polling {
            self.poll()
        } else {
            self.sleep_and_wake()
        }
        self.driver.settle();
        drop(guard);
    }

    /// Told to stop, and every fence that was asked for has ended (whoever closed on this very
    /// thread could not wait for his); or a failure, after which there is nothing left to do.
    fn is_over(&self) -> bool {
        let stop = self.stop.load(Ordering::SeqCst);
        self.driver
            .streams()
            .all(|stream| stream.failure().is_some() || stop && stream.is_content())
    }

    fn poll(&mut self) {
        let mut idle = 0u32;
        while !self.is_over() {
            self.driver.turn();
            self.driver.announce();
            idle = relax(idle);
        }
    }

    fn sleep_and_wake(&mut self) {
        let streams: Vec<_> = self.driver.streams().cloned().collect();
        let fences = || streams.iter().map(|stream| stream.counters.fences_done.get()).sum::<u64>();
        let asked = || streams.iter().map(|stream| stream.counters.fences_asked.get()).sum();
        let company = Company::default();
        while !self.is_over() {
            let before = fences();
            self.driver.turn_until(|| fences() > before);
            if fences() > before {
                // A fence has ended: the next one begins when those who waited had a moment.
                self.driver.kick();
                let sleepers = streams.iter().map(|stream| stream.progress.sleepers()).sum();
                company.disband(sleepers, asked(), self.driver.last_fence());
                self.driver.announce();
                company.gather(asked, || self.driver.is_urgent());
            } else {
                self.driver.announce();
                self.driver.wait_unless(None, || self.stop.load(Ordering::SeqCst));
            }
        }
    }
}

/// Pauses of a polling driver before it lets another thread of this core run: a few microseconds.
/// The kernel ends a direct write in a worker on the core that the device interrupted, and lets a
/// thread that never yields go on for 100 µs and more first (Linux 6.18): with 256 pauses a durable
/// write took 263 µs, with 8 it takes 84.
const PAUSES: u32 = 8;

/// A pause of a polling driver: short enough to see a completion within a microsecond, and long
/// enough to leave the producer's cache lines alone.
fn relax(idle: u32) -> u32 {
    for _ in 0..32 {
        spin_loop();
    }
    if idle >= PAUSES {
        thread::yield_now();
        0
    } else {
        idle + 1
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
