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
        if !reason() && !self.rung.swap(false, Ordering::AcqRel) {
            self.event.sleep(ticket, deadline);
            // A swap, so that what was published before a ring that is forgotten here is seen next.
            self.rung.swap(false, Ordering::AcqRel);
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.rung.swap(true, Ordering::AcqRel); // as the sleeper's, so that each is seen or comes later
        self.event.announce();
    }

    fn sleeps_apart(&self) -> bool {
        true
    }

    fn sleep(&self, deadline: Option<Instant>) {
        self.wait(deadline, || false);
    }
}
