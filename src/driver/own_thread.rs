//! The thread of a driver: it turns, and sleeps while there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use super::company::Company;
use super::run::{Driving, End, Mark, Seat, panicked};
use super::thread::{is_real_time, set_up};
use super::{Engine, Streams};
use crate::options::ThreadSetup;
use crate::sync::thread::yield_now;
use crate::sync::{Instant, ignore_poison, mpsc, spin_loop};

/// The thread of a driver of one stream.
pub(super) struct Thread {
    pub(super) end: Arc<End>,
    pub(super) seat: Arc<Seat>,
    pub(super) polling: bool,
}

impl Thread {
    pub(super) fn run(
        self,
        mut engine: Engine,
        setup: &ThreadSetup,
        tell: &mpsc::Sender<std::io::Result<()>>,
    ) {
        if let Err(error) = set_up(setup).and_then(|()| engine.begin()) {
            drop(engine); // first: whoever hears of it may open the file again at once
            let _ = tell.send(Err(error));
            return;
        }
        let _ = tell.send(Ok(()));
        let stream = engine.each_stream().next().cloned();
        let _driving = stream.as_deref().map(|stream| Driving::new(Mark::of(stream)));
        let guard = PanicGuard(engine.streams().clone());
        let engine = match self.polling {
            true => self.poll(engine),
            false => self.sleep_and_wake(engine),
        };
        if let Some(mut engine) = engine {
            engine.settle();
        }
        drop(guard);
        self.end.rest();
    }

    fn is_over(&self, engine: &Engine) -> bool {
        engine.each_stream().all(|stream| self.end.is_reached(stream))
    }

    fn poll(&self, mut engine: Engine) -> Option<Engine> {
        let mut pace = Pace::new();
        while !self.is_over(&engine) {
            engine.turn();
            engine.announce();
            if pace.relax() {
                see_to_what_is_due(&mut engine);
            }
        }
        Some(engine)
    }

    fn sleep_and_wake(&self, mut engine: Engine) -> Option<Engine> {
        let streams: Vec<_> = engine.each_stream().cloned().collect();
        let fences = || streams.iter().map(|stream| stream.counters.fences_done.get()).sum::<u64>();
        let asked = || streams.iter().map(|stream| stream.counters.fences_asked.get()).sum();
        let over = || streams.iter().all(|stream| self.end.is_reached(stream));
        let company = Company::default();
        while !self.is_over(&engine) {
            see_to_what_is_due(&mut engine);
            let before = fences();
            engine.turn_until(|| fences() > before);
            if fences() > before {
                // A fence has ended: the next one begins when those who waited had a moment.
                engine.kick();
                let sleepers = streams.iter().map(|stream| stream.progress.sleepers()).sum();
                company.disband(sleepers, asked(), engine.last_fence());
                engine.announce();
                company.gather(asked, || engine.is_urgent());
            } else {
                engine.announce();
                engine = sleep(engine, &self.seat, over)?;
            }
        }
        Some(engine)
    }
}

/// Until there is something to do, or a `reason` not to sleep; meanwhile whoever waits may take the
/// engine from the seat, if nothing is under way. `None` if he has panicked with it.
pub(super) fn sleep(mut engine: Engine, seat: &Seat, reason: impl Fn() -> bool) -> Option<Engine> {
    let until = engine.due_at();
    let Some(bell) = engine.leave_for_sleep(until, &reason) else {
        engine.wait_unless(until, reason);
        return Some(engine);
    };
    let streams = engine.streams().clone();
    *ignore_poison(seat.lock()) = Some(engine);
    bell.sleep(until);
    bell.goes_apart(false);
    let Ok(mut taken) = seat.lock() else {
        streams.fail_all(panicked);
        return ignore_poison(seat.lock()).take();
    };
    let mut engine = taken.take();
    engine.iter_mut().for_each(Engine::wakes_up);
    engine
}

/// What is due by time: in idle time the length on disk becomes what a reader may believe, too.
pub(super) fn see_to_what_is_due(engine: &mut Engine) {
    if let Some(at) = engine.due_at() {
        let now = Instant::now();
        if now >= at {
            engine.look(now);
            engine.cut_padding(now);
        }
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

/// The pauses of a polling driver.
pub(super) struct Pace {
    idle: u32,
    yields: u32,
    real_time: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { idle: 0, yields: 0, real_time: is_real_time() }
    }

    /// Short enough to see a completion within a microsecond, and long enough to leave the
    /// producer's cache lines alone. Says now and then that there is time for something else.
    pub(super) fn relax(&mut self) -> bool {
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
pub(super) struct PanicGuard(pub(super) Arc<Streams>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail_all(panicked);
        }
    }
}
