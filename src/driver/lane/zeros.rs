//! Writes zeros ahead of the data, in idle time: when, and how far, says [`Ahead`].
//!
//! They carry no fence, and no fence waits for them: the next one of the data takes along what the file
//! system has to record. Data never goes where zeros are on their way.
//!
//! [`Ahead`]: crate::driver::ahead::Ahead

use std::io;
use std::ops::Range;

use super::{Kind, Lane};
use crate::backend::{Io, Op};
use crate::blocks::align_up;
use crate::canary::Canary;
use crate::driver::outcome::Patience;
use crate::error::{Operation, lacks_space};
use crate::stream::Wanted;

/// Others may need the space: so many times the zeros have to be free.
const PLENTY: u64 = 64;

impl Lane {
    /// The zeros to be written now: nothing else can start, and who waits for a fence waits for one that
    /// is under way.
    pub(super) fn zeros_ready(&self, committed: u64, wanted: &Wanted) -> Option<Range<u64>> {
        let end = align_up(self.plan.submitted(), self.block);
        let zeros = self.ahead.next(end)?;
        let is_idle = (!self.is_behind(wanted) || self.plan.fence_in_flight())
            && self.next_write(committed, wanted).is_none()
            && self.stream.gap.wanted().is_none()
            && !self.plan.is_held();
        (is_idle && !self.stream.is_ending()).then_some(zeros)
    }

    pub(super) fn start_zeros(&mut self, committed: u64, wanted: &Wanted, io: &mut dyn Io) -> bool {
        let Some(zeros) = self.zeros_ready(committed, wanted) else { return false };
        let len = zeros.end - zeros.start;
        if io.free_space(self.file).is_some_and(|free| free < PLENTY * len) {
            self.ahead.give_up();
            return false;
        }
        self.length.reaches(zeros.end);
        let at = match Canary::ZerosOverData.is_planted() {
            true => zeros.start - self.block.min(zeros.start),
            false => zeros.start,
        };
        let op = Op::Zeros { at, len: len as usize };
        self.ahead.started(zeros, io.now());
        io.submit(self.file, self.token(Kind::Zeros), op);
        true
    }

    /// Whoever has not got them has lost nothing: only what says that the medium is ill is everybody's.
    pub(super) fn zeros_ended(&mut self, result: io::Result<usize>) {
        let taken = match result {
            Ok(taken) => taken,
            Err(error) if lacks_space(&error) || is_too_long(&error) => {
                return self.ahead.give_up();
            }
            Err(error) if Patience::is_passing(&error) => return self.ahead.put_off(),
            Err(error) => {
                self.ahead.give_up();
                if self.stream.failure().is_none() {
                    self.fail(Operation::Write, error);
                }
                return;
            }
        };
        self.plan.note_change();
        self.stream.counters.zeros.add(taken as u64);
        match (taken as u64) < self.block {
            true => self.ahead.put_off(),
            false => self.ahead.ended(taken as u64),
        }
    }
}

/// With a limit on the length of files a direct write that ends beyond it is EINVAL.
fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}
