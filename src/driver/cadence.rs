//! What is done though nobody asks for it: bytes are submitted, and fences made. Pure: positions and
//! times come from the lane.

use std::time::Duration;

use crate::sync::Instant;

/// How often; `None` for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Every {
    /// No accepted byte is submitted later than this after it came.
    pub(crate) submit: Option<Duration>,
    /// What is new is fenced.
    pub(crate) fence: Option<Duration>,
    /// So many accepted bytes are fenced together.
    pub(crate) fence_bytes: Option<u64>,
}

/// What is to be done unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Submit,
    Fence,
}

/// Comes again and again.
#[derive(Debug)]
struct Timer {
    pause: Duration,
    at: Instant,
}

impl Timer {
    fn new(pause: Duration, now: Instant) -> Self {
        Self { pause, at: now + pause }
    }

    /// Whether it has come; then the next pause begins.
    fn has_come(&mut self, now: Instant) -> bool {
        let has_come = now >= self.at;
        if has_come {
            self.at = now + self.pause;
        }
        has_come
    }
}

#[derive(Debug)]
pub(crate) struct Cadence {
    looks: Option<Timer>,
    /// What was accepted at the last of them.
    seen: u64,
    fences: Option<Timer>,
    fence_bytes: Option<u64>,
    /// Up to where the last fence by bytes reached.
    fenced: u64,
}

impl Cadence {
    pub(crate) fn new(every: Every, start: u64, now: Instant) -> Self {
        let timer = |pause| Timer::new(pause, now);
        // A byte is seen by one look, and submitted by the next at the latest.
        let looks = every.submit.map(|limit| timer(limit / 2));
        let (fences, fence_bytes) = (every.fence.map(timer), every.fence_bytes);
        Self { looks, seen: start, fences, fence_bytes, fenced: start }
    }

    /// When it wants to look, though nothing has happened.
    pub(crate) fn looks_at(&self) -> Option<Instant> {
        self.looks.iter().chain(&self.fences).map(|timer| timer.at).min()
    }

    pub(crate) fn fences_by_time(&self) -> bool {
        self.fences.is_some()
    }

    pub(crate) fn fences_by_bytes(&self) -> bool {
        self.fence_bytes.is_some()
    }

    /// Whether a fence by bytes is due.
    pub(crate) fn due_by_bytes(&mut self, accepted: u64) -> bool {
        let due = self.fence_bytes.is_some_and(|bytes| accepted - self.fenced >= bytes);
        if due {
            self.fenced = accepted;
        }
        due
    }

    /// What is due at this time. Bytes are submitted when they were there at the look before: a
    /// stream that fills its buffers in less time gets no write more than it would have.
    pub(crate) fn due(&mut self, now: Instant, accepted: u64, submitted: u64) -> Due {
        let has_come =
            |timer: &mut Option<Timer>| timer.as_mut().is_some_and(|timer| timer.has_come(now));
        let looks = has_come(&mut self.looks);
        let waits = looks && submitted < self.seen;
        if looks {
            self.seen = accepted;
        }
        if has_come(&mut self.fences) {
            Due::Fence
        } else if waits {
            Due::Submit
        } else {
            Due::Nothing
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[test]
    fn every_byte_is_submitted_within_the_limit() {
        let began = Instant::now();
        let every = Every { submit: Some(LIMIT), ..Every::default() };
        let random = &mut fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut cadence = Cadence::new(every, 0, began);
            let (mut submitted, mut accepted) = (0, Vec::new());
            for ms in 0..1000 {
                let now = began + Duration::from_millis(ms);
                if random.u8(..30) == 0 {
                    accepted.push(now);
                }
                if cadence.looks_at().is_some_and(|at| now >= at)
                    && cadence.due(now, accepted.len() as u64, submitted) == Due::Submit
                {
                    submitted = accepted.len() as u64;
                }
                let oldest = accepted.get(submitted as usize);
                assert!(oldest.is_none_or(|came| now - *came <= LIMIT));
            }
        }
    }

    #[test]
    fn a_stream_that_fills_its_buffers_in_time_gets_no_other_write() {
        let began = Instant::now();
        let mut cadence = Cadence::new(Every { submit: Some(LIMIT), ..Every::default() }, 0, began);
        for ms in 0..1000 {
            // 1000 bytes each millisecond, submitted in buffers of 40,000.
            let accepted = ms * 1000;
            let now = began + Duration::from_millis(ms);
            let due = cadence.due(now, accepted, accepted - accepted % 40_000);
            assert_eq!(due, Due::Nothing);
        }
    }

    #[test]
    fn fences_come_by_time_and_by_bytes() {
        let began = Instant::now();
        let every = Every { submit: None, fence: Some(LIMIT), fence_bytes: Some(1000) };
        let mut cadence = Cadence::new(every, 500, began);
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(cadence.due(at(99), 600, 500), Due::Nothing);
        assert_eq!(cadence.due(at(100), 600, 500), Due::Fence);
        assert_eq!(cadence.due(at(199), 600, 500), Due::Nothing);
        assert_eq!(cadence.looks_at(), Some(at(200)));
        assert!(!cadence.due_by_bytes(1499));
        assert!(cadence.due_by_bytes(1500));
        assert!(!cadence.due_by_bytes(1501));
    }

    #[test]
    fn nothing_is_due_where_nothing_was_asked_for() {
        let mut cadence = Cadence::new(Every::default(), 0, Instant::now());
        assert_eq!(cadence.looks_at(), None);
        let late = Instant::now() + Duration::from_secs(3600);
        assert_eq!(cadence.due(late, 1 << 40, 0), Due::Nothing);
        assert!(!cadence.due_by_bytes(1 << 40));
    }
}
