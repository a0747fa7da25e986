//! What JACK calls.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use jack::{AudioIn, Client, ClientStatus, Control, Port, ProcessHandler, ProcessScope};

use crate::tape::Tape;

/// The tape, shared with who takes it away at the end. The callback only tries the lock, and nobody
/// else holds it before that: no call of the kernel.
pub type SharedTape = Arc<Mutex<Option<Tape>>>;

/// The deadline thread.
#[derive(Debug)]
pub struct Capture {
    ports: Vec<Port<AudioIn>>,
    tape: SharedTape,
    counts: Arc<Counts>,
}

/// What JACK lost, or says that it did.
#[derive(Debug, Default)]
pub struct Counts {
    xruns: AtomicU64,
    missed: AtomicU64,
}

impl Counts {
    /// Times that some client, or the server, was late.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// Frames that JACK never offered.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Capture {
    /// Records these ports, a channel each.
    pub fn new(ports: Vec<Port<AudioIn>>, tape: SharedTape, counts: Arc<Counts>) -> Self {
        Self { ports, tape, counts }
    }
}

impl ProcessHandler for Capture {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        if let Ok(mut tape) = self.tape.try_lock()
            && let Some(tape) = tape.as_mut()
        {
            let channel = |index: usize| self.ports[index].as_slice(scope);
            let missed = tape.take(scope.last_frame_time(), scope.n_frames() as usize, channel);
            self.counts.missed.fetch_add(missed.into(), Ordering::Relaxed);
        }
        Control::Continue
    }
}

/// Ends the recording, from whatever thread: wakes the one that made it.
#[derive(Clone, Debug)]
pub struct Stop {
    why: Arc<AtomicU8>,
    sleeper: Thread,
}

/// Why a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// Somebody asked for it.
    Asked = 1,
    /// The JACK server is gone.
    ServerGone = 2,
}

impl Stop {
    /// To be waited for by this thread.
    pub fn new() -> Self {
        Self { why: Arc::default(), sleeper: std::thread::current() }
    }

    /// Ends it. Locks and allocates nothing: JACK's shutdown callback is written like a signal
    /// handler.
    pub fn end(&self, why: Why) {
        let _ = self.why.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Relaxed);
        self.sleeper.unpark();
    }

    /// Why it ends, once it does: waits until `by` at the longest.
    pub fn wait_until(&self, by: Instant) -> Option<Why> {
        loop {
            match self.why.load(Ordering::Acquire) {
                0 => {}
                2 => return Some(Why::ServerGone),
                _ => return Some(Why::Asked),
            }
            match by.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return None,
                left => std::thread::park_timeout(left),
            }
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Hears what JACK says about itself.
#[derive(Debug)]
pub struct Notices {
    /// Counts xruns.
    pub counts: Arc<Counts>,
    /// Told when the server is gone.
    pub stop: Stop,
}

impl jack::NotificationHandler for Notices {
    fn xrun(&mut self, _: &Client) -> Control {
        self.counts.xruns.fetch_add(1, Ordering::Relaxed);
        Control::Continue
    }

    #[allow(unsafe_code, reason = "the trait has it so: it may do what a signal handler may")]
    unsafe fn shutdown(&mut self, _: ClientStatus, _: &str) {
        self.stop.end(Why::ServerGone);
    }
}
