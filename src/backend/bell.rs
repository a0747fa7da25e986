//! A doorbell for backends that sleep on no descriptor.

use super::Wake;
use crate::sync::{AtomicBool, Event, Instant, Ordering};

/// A wake-up that is kept if nobody sleeps yet.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    event: Event,
}

impl Bell {
    /// Sleeps until it rings or the deadline has passed, unless it has rung before or there is a
    /// `reason` not to.
    pub(crate) fn wait(&self, deadline: Option<Instant>, reason: impl Fn() -> bool) {
        let ticket = self.event.ticket();
        if !reason() && !self.rung.swap(false, Ordering::SeqCst) {
            self.event.sleep(ticket, deadline);
            // SeqCst, as the ring: whoever rang before has published before, and is looked at next.
            self.rung.store(false, Ordering::SeqCst);
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.event.announce();
    }
}
