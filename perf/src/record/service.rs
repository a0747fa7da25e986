//! What a service manager is told (sd_notify(3)), on a thread of its own: a manager that does not
//! listen holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use sd_notify::NotifyState;

use super::progress;
use super::sink::Control;

/// How often the status is told, at least.
const EVERY: Duration = Duration::from_secs(5);
/// How long the end waits until the last word is taken.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Tells it, if there is one that listens.
#[derive(Debug)]
pub(crate) struct Service {
    alive: Arc<AtomicU64>,
    /// Dropped to end it.
    over: Option<Sender<()>>,
    told: Receiver<()>,
}

impl Service {
    /// The file is open: ready. Without a thread nothing is told.
    pub(crate) fn start(control: &Control) -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let alive = Arc::new(AtomicU64::new(0));
        let (over, is_over) = channel();
        let (last, told) = channel();
        let (control, seen) = (control.clone(), alive.clone());
        let work = move || {
            tell(&control, &seen, &is_over);
            let _ = last.send(());
        };
        std::thread::Builder::new().name("service".into()).spawn(work).ok()?;
        Some(Self { alive, over: Some(over), told })
    }

    /// The recorder goes on: whoever stays away is what a watchdog is for.
    pub(crate) fn alive(&self) {
        self.alive.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.over.take());
        let _ = self.told.recv_timeout(LAST_WORD);
    }
}

/// A manager that is gone is no reason to stop.
fn say(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(false, state);
}

fn tell(control: &Control, alive: &AtomicU64, over: &Receiver<()>) {
    let mut watchdog = 0; // microseconds
    let watched = sd_notify::watchdog_enabled(false, &mut watchdog);
    let every = if watched { EVERY.min(Duration::from_micros(watchdog) / 2) } else { EVERY };
    say(&[NotifyState::Ready]);
    let (mut last, start) = (0, control.positions().accepted);
    loop {
        say(&[NotifyState::Status(&progress::in_words(control, start))]);
        let now = alive.load(Ordering::Relaxed);
        if watched && now != std::mem::replace(&mut last, now) {
            say(&[NotifyState::Watchdog]);
        }
        if over.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return say(&[NotifyState::Stopping]);
        }
    }
}
