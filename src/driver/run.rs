//! Who turns the driver: a thread of its own, or whoever waits.

use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Driver;
use crate::error::Error;
use crate::options::Drive;
use crate::stream::Stream;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Event, Ordering, ignore_poison};

/// Turns the driver of one stream.
#[derive(Debug)]
pub(crate) struct Runner {
    stream: Arc<Stream>,
    who: Who,
    company: Company,
}

#[derive(Debug)]
enum Who {
    /// The driver is taken by whoever waits; `None` once retired.
    Caller {
        driver: Mutex<Option<Driver>>,
        eager: bool,
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
    pub(crate) fn new(driver: Driver, stream: Arc<Stream>, drive: Drive) -> std::io::Result<Self> {
        let who = match drive {
            Drive::Caller => {
                let eager = driver.is_asynchronous();
                Who::Caller { driver: Mutex::new(Some(driver)), eager }
            }
            Drive::Thread | Drive::Poll => {
                let stop = Arc::new(AtomicBool::new(false));
                let work = Thread { driver, stop: stop.clone(), polling: drive == Drive::Poll };
                let handle = std::thread::Builder::new()
                    .name("writeflush".into())
                    .spawn(move || work.run())?;
                Who::Thread { handle: Mutex::new(Some(handle)), stop }
            }
        };
        Ok(Self { stream, who, company: Company::default() })
    }

    /// Called when a buffer has filled up: gets it on its way without waiting for the disk.
    pub(crate) fn nudge(&self) {
        match &self.who {
            Who::Caller { eager: false, .. } => {} // it would wait: whoever needs room does it
            Who::Caller { driver, eager: true } => match driver.try_lock() {
                Ok(mut driver) => {
                    if let Some(driver) = driver.as_mut() {
                        driver.turn();
                        driver.announce();
                    }
                }
                Err(_) => self.stream.ring_doorbell(),
            },
            Who::Thread { .. } => self.stream.ring_doorbell(),
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
            match &self.who {
                Who::Thread { .. } => event.sleep(ticket, deadline),
                Who::Caller { driver, .. } => match driver.try_lock() {
                    Ok(mut driver) => {
                        self.lead(&mut driver, deadline, &ready);
                        drop(driver);
                        // Those whose wait is over, and the one who takes the lead.
                        self.stream.progress.announce();
                        self.stream.space.announce();
                    }
                    Err(TryLockError::WouldBlock) => self.company.follow(event, ticket, deadline),
                    Err(TryLockError::Poisoned(_)) => {
                        driver.clear_poison();
                        self.stream.fail(panicked(&self.stream));
                    }
                },
            }
        }
    }

    fn ended(&self, deadline: Option<Instant>, ready: &impl Fn() -> bool) -> Option<Waited> {
        if ready() {
            Some(Waited::Ready)
        } else if self.stream.failure().is_some() {
            Some(Waited::Failed)
        } else if deadline.is_some_and(|at| Instant::now() >= at) {
            Some(Waited::TimedOut)
        } else {
            None
        }
    }

    fn lead(
        &self,
        driver: &mut Option<Driver>,
        deadline: Option<Instant>,
        ready: &impl Fn() -> bool,
    ) {
        let Some(driver) = driver.as_mut() else {
            return self.stream.fail(Error::Closed);
        };
        self.company.gather(|| self.stream.counters.fences_asked.get());
        let since = Instant::now();
        loop {
            // What has come up since is the next leader's, who gathers first.
            driver.turn_until(ready);
            if self.ended(deadline, ready).is_some() {
                break;
            }
            driver.announce();
            driver.wait(deadline);
        }
        self.company.disband(since.elapsed());
        self.stream.wake_futures();
    }

    /// Moves things on without waiting, where nobody else does.
    pub(crate) fn poll(&self) {
        if let Who::Caller { driver, .. } = &self.who
            && let Ok(mut driver) = driver.try_lock()
            && let Some(driver) = driver.as_mut()
        {
            driver.turn();
            driver.announce();
        }
    }

    /// Whether work goes on only inside calls.
    pub(crate) fn needs_polling(&self) -> bool {
        matches!(self.who, Who::Caller { .. })
    }

    /// Ends the driver, once nothing is in the kernel's hands; file and ring are let go.
    pub(crate) fn retire(&self) {
        match &self.who {
            Who::Caller { driver, .. } => {
                let driver = ignore_poison(driver.lock()).take();
                if let Some(mut driver) = driver {
                    driver.settle();
                }
            }
            Who::Thread { handle, stop } => {
                stop.store(true, Ordering::SeqCst);
                self.stream.ring_doorbell();
                if let Some(handle) = ignore_poison(handle.lock()).take() {
                    let _ = handle.join(); // a panic in it has poisoned the stream already
                }
            }
        }
    }
}

/// The driver's own thread.
struct Thread {
    driver: Driver,
    stop: Arc<AtomicBool>,
    polling: bool,
}

impl Thread {
    fn run(mut self) {
        let guard = PanicGuard(self.driver.streams().cloned().collect());
        let mut idle = 0u32;
        loop {
            self.driver.turn();
            self.driver.announce();
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            if self.polling {
                idle = relax(idle);
            } else {
                self.driver.wait_unless(None, || self.stop.load(Ordering::SeqCst));
            }
        }
        self.driver.settle();
        drop(guard);
    }
}

/// A pause of a polling driver: short enough to see a completion within a microsecond, and long
/// enough to leave the producer's cache lines alone. Now and then it lets another thread of this
/// core run.
fn relax(idle: u32) -> u32 {
    for _ in 0..32 {
        std::hint::spin_loop();
    }
    if idle >= 256 {
        std::thread::yield_now();
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

/// Group commit among callers that drive: those whom one fence has just let go are about to ask
/// for the next. The leader gives them a moment, so that all share it; else they would split into
/// two groups that take turns.
#[derive(Debug, Default)]
struct Company {
    followers: AtomicU32,
    /// Callers, the leader included, when the last lead ended.
    group: AtomicU32,
    /// Fences that had been asked for when the last lead began: it served them all.
    served: AtomicU64,
    /// How long that lead took, in nanoseconds.
    took_nanoseconds: AtomicU64,
}

impl Company {
    fn follow(&self, event: &Event, ticket: u32, deadline: Option<Instant>) {
        self.followers.fetch_add(1, Ordering::Relaxed);
        event.sleep(ticket, deadline);
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until as many fences are asked for as there were callers last time, but no longer
    /// than the last lead took: a lone caller never waits.
    fn gather(&self, asked: impl Fn() -> u64) {
        let group = u64::from(self.group.load(Ordering::Relaxed));
        if group > 1 {
            let served = self.served.load(Ordering::Relaxed);
            let took = Duration::from_nanos(self.took_nanoseconds.load(Ordering::Relaxed));
            let until = Instant::now() + took;
            while asked().saturating_sub(served) < group && Instant::now() < until {
                std::thread::yield_now();
            }
        }
        self.served.store(asked(), Ordering::Relaxed);
    }

    fn disband(&self, took: Duration) {
        self.group.store(self.followers.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.took_nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }
}
