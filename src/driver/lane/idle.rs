//! What a lane does though nobody asks: bytes are submitted, fences made, padding cut off.

use std::time::Duration;

use super::Lane;
use crate::backend::Io;
use crate::blocks::align_down;
use crate::canary::Canary;
use crate::driver::cadence::Due;
use crate::sync::Instant;

/// How long a file is left alone before its padding is cut off: short to a reader, and so long that
/// who asks for a fence now and then pays for no cut.
const QUIET: Duration = Duration::from_millis(100);

impl Lane {
    /// When it wants to [look](Self::look).
    pub(crate) fn looks_at(&self) -> Option<Instant> {
        self.cadence.looks_at().filter(|_| !self.stream.is_lost())
    }

    /// It looks when all others do who are in step with the same.
    pub(crate) fn in_step_with(&mut self, epoch: Instant) {
        self.cadence.in_step_with(epoch);
    }

    pub(crate) fn fences_by_time(&self) -> bool {
        self.cadence.fences_by_time()
    }

    /// Asks in nobody's name for what is due at this time.
    pub(crate) fn look(&mut self, now: Instant) {
        // Patches first, as whoever asks for a fence.
        let patches = self.stream.patches_queued();
        let committed = self.stream.committed();
        match self.cadence.due(now, committed, self.plan.submitted()) {
            Due::Nothing => {}
            Due::Submit => {
                self.unasked = true;
                self.stream.want_written(committed);
            }
            Due::Fence => self.fence_unasked(committed, patches),
        }
    }

    pub(super) fn fence_by_bytes(&mut self) {
        if self.cadence.fences_by_bytes() {
            let patches = self.stream.patches_queued();
            let committed = self.stream.committed();
            if self.cadence.due_by_bytes(committed) {
                self.fence_unasked(committed, patches);
            }
        }
    }

    fn fence_unasked(&mut self, committed: u64, patches: u64) {
        if Canary::UnaskedUnfenced.is_planted() {
            return self.grant_unfenced();
        }
        let wanted = self.stream.wanted();
        if committed > wanted.durable || patches > wanted.patches {
            self.stream.counters.fences_asked.add(1);
            self.stream.want_durable(committed, patches);
        }
    }

    /// A planted bug.
    fn grant_unfenced(&mut self) {
        if let Some(covers) = self.plan.last_fence()
            && !self.plan.fence_in_flight()
        {
            self.plan.flush_started(covers);
            self.plan.flush_completed();
        }
    }

    /// Whether nothing is under way, and nothing waits to be asked for again.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.plan.idle() && !self.in_flight() && self.patch.is_none() && !self.stream.is_lost()
    }

    /// When its padding is to be cut off; `None` if there is none, or it is not at rest.
    pub(crate) fn cut_at(&mut self) -> Option<Instant> {
        // Zeros ahead are there for the next fence, whenever that comes.
        let is_cut = self.is_at_rest() && !self.ahead.is_on();
        let padded = is_cut && self.length.padded_from(self.plan.written()).is_some();
        padded.then(|| *self.cut_from.get_or_insert_with(|| Instant::now() + QUIET))
    }

    /// Cuts the file to the bytes that are in it: never below what is durable, since that is written.
    /// The next tail lengthens it again. A cut that fails harms nobody, and the close tries once
    /// more and tells.
    pub(crate) fn cut_padding(&mut self, io: &mut dyn Io) {
        let written = self.plan.written();
        let Some(mut exact) = self.length.padded_from(written) else { return };
        if Canary::CutShort.is_planted() {
            exact = align_down(exact, self.block);
        }
        let _ = io.set_len(self.file, exact);
        self.length.cut_to(exact);
    }
}
