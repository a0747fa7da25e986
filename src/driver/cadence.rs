//! What is done though nobody asks for it: bytes are submitted, and fences made. Pure: positions and
//! times come from the lane.

use std::time::Duration;

use crate::sync::Instant;

/// How often; `None` for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Every {
    /// No accepted byte is submitted later than this after it came; where a fence is asked for,
    /// half as long again after that.
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

/// Comes again and again: after a pause, or a little earlier, in step with others. So the timers of
/// many streams soon come together, and cost one wake-up and not many.
#[derive(Debug)]
struct Timer {
    pause: Duration,
    at: Instant,
    /// All who count their pauses from here come together.
    epoch: Instant,
}

impl Timer {
    fn new(pause: Duration, now: Instant) -> Self {
        Self { pause, at: now + pause, epoch: now }
    }

    /// Comes next not later than that, and earlier by a quarter of a pause at most.
    fn comes_by(&mut self, at: Instant) {
        let nanoseconds = |time: Duration| time.as_nanos() as u64; // in 64 bits 584 years
        let pause = nanoseconds(self.pause).max(1);
        let out_of_step = nanoseconds(at.saturating_duration_since(self.epoch)) % pause;
        self.at = at - Duration::from_nanos(out_of_step.min(pause / 4));
    }

    /// Whether it has come; then the next pause begins.
    fn has_come(&mut self, now: Instant) -> bool {
        let has_come = now >= self.at;
        if has_come {
            self.comes_by(now + self.pause);
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

    /// Its timers come together with those of all who are in step with the same.
    pub(crate) fn in_step_with(&mut self, epoch: Instant) {
        for timer in self.looks.iter_mut().chain(&mut self.fences) {
            timer.epoch = epoch;
        }
    }

    /// A fence has been asked for that takes along what is there. Who asks for one regularly is to
    /// find it in one write: so it is waited for a little longer than bytes are without it.
    pub(crate) fn fence_begins(&mut self, now: Instant) {
        if let Some(looks) = &mut self.looks {
            looks.at = now + looks.pause + looks.pause;
        }
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
    fn who_asks_for_fences_regularly_finds_all_in_one_write() {
        let began = Instant::now();
        let random = &mut fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let every = Every { submit: Some(LIMIT), ..Every::default() };
            let mut cadence = Cadence::new(every, 0, began);
            let (mut submitted, mut fence_at) = (0, random.u64(0..100));
            for ms in 0..3000 {
                let now = began + Duration::from_millis(ms);
                if ms == fence_at {
                    cadence.fence_begins(now);
                    (submitted, fence_at) = (ms, fence_at + random.u64(95..106));
                }
                let due = cadence.due(now, ms, submitted);
                assert!(submitted == 0 || due == Due::Nothing, "{ms} ms");
            }
        }
    }

    #[test]
    fn behind_the_last_fence_bytes_wait_half_as_long_again() {
        let began = Instant::now();
        let every = Every { submit: Some(LIMIT), ..Every::default() };
        let mut cadence = Cadence::new(every, 0, began);
        let at = |ms| began + Duration::from_millis(ms);
        cadence.fence_begins(at(30));
        let submits = |ms: &u64| {
            cadence.looks_at().is_some_and(|look| at(*ms) >= look)
                && cadence.due(at(*ms), 2, 1) == Due::Submit
        };
        // 130, in step with multiples of 50 a little earlier, and then 50 later in the same way.
        let submitted = (30..1000).find(submits).unwrap();
        assert!((150..=180).contains(&submitted), "{submitted} ms");
    }

    #[test]
    fn timers_of_different_streams_come_together() {
        let began = Instant::now();
        let every = Every { fence: Some(LIMIT), ..Every::default() };
        let at = |ms| began + Duration::from_millis(ms);
        let mut cadences: Vec<_> = (0..60).map(|ms| Cadence::new(every, 0, at(ms))).collect();
        cadences.iter_mut().for_each(|cadence| cadence.in_step_with(began));
        let mut wake_ups = 0;
        for ms in 0..10_000 {
            let due = cadences.iter_mut().filter_map(|cadence| {
                cadence.looks_at().filter(|due| at(ms) >= *due)?;
                Some(cadence.due(at(ms), 1, 1))
            });
            let due: Vec<_> = due.collect();
            assert!(due.iter().all(|due| *due == Due::Fence));
            assert!(ms < 500 || due.is_empty() || due.len() == 60, "{} of 60", due.len());
            wake_ups += u32::from(!due.is_empty());
        }
        assert!((100..400).contains(&wake_ups), "{wake_ups} in 100 intervals");
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
