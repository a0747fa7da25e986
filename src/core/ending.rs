//! The end of a process that has not closed its writers, on Unix: every other thread still goes on,
//! the driver's too, so that an end is a close with a time limit.

use std::time::Duration;

use super::closing::COPIES;
use super::{Core, Goal};
use crate::error::Error;
use crate::sync::{Instant, thread};

impl Core {
    /// Whether this process may end the writer, and this thread: not a forked child, and not whoever
    /// turns the driver at this moment, which could go no further.
    pub(crate) fn can_end_here(&self) -> bool {
        !self.stream.is_not_ours()
            && self.stream.failure().is_none()
            && !self.runner.is_driven_here()
            && self.is_of_the_system()
    }

    /// When nothing more is taken: drains, fences and trims as a close does, until `by`. A file that
    /// is not durable by then stays as it is.
    pub(crate) fn end(&self, by: Instant) {
        if !self.claim() {
            // Whoever closes it does all that.
            return wait_for(by, || self.held.try_lock().is_ok_and(|held| held.is_none()));
        }
        wait_for(by, || self.patching.try_lock().is_ok()); // a patch under way is let in whole
        let stream = &self.stream;
        wait_for(by.min(Instant::now() + COPIES), || {
            stream.committed() >= stream.sequencer.accepted()
        });
        let goal = Goal { position: stream.committed(), patches: stream.patches_queued() };
        self.want(goal);
        let all_well = matches!(self.wait_durable(goal, Some(by)), Ok(true));
        if !all_well && !stream.is_cut_short() {
            return;
        }
        let end = if all_well { goal.position } else { stream.written() };
        self.runner.retire_by(by);
        stream.fail(Error::Closed); // whoever still waits is told, and nothing is written any more
        if let Some(held) = self.held.try_lock().ok().and_then(|mut held| held.take()) {
            let _ = held.finish(&self.stream, end); // nobody is left who could be told
        }
    }
}

/// Looks until `ready`, at most until `by`.
fn wait_for(by: Instant, ready: impl Fn() -> bool) {
    while !ready() && Instant::now() < by {
        thread::sleep(Duration::from_millis(1));
    }
}
