//! Those who commit: the caller alone, or threads that live through all turns, so that no turn
//! holds a birth or a death.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::subject::Subject;

/// The time since some moment. A test has a clock of its own.
pub type Clock = fn() -> Duration;

/// The monotonic clock.
pub fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// What one turn of a subject took.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Every commit, in µs: from the call to its return.
    pub commits: Vec<f64>,
    /// From the begin of the first commit to the end of the last.
    pub took: Duration,
}

impl Turn {
    /// µs by commits: with one committer the time of a commit, with several the inverse of how
    /// many are done in a time.
    pub fn per_commit(&self) -> f64 {
        match self.commits.as_slice() {
            [one] => *one,
            all => self.took.as_secs_f64() * 1e6 / all.len().max(1) as f64,
        }
    }
}

/// Commits records, again and again.
#[derive(Debug)]
pub struct Crew {
    orders: Arc<Orders>,
    /// To each committer beside the caller. Nobody sends any more: it goes home.
    jobs: Vec<Sender<Arc<dyn Subject>>>,
    done: Receiver<io::Result<Span>>,
    threads: Vec<JoinHandle<()>>,
}

struct Orders {
    /// Commits of each in a turn.
    burst: u64,
    record: Vec<u8>,
    clock: Clock,
    /// All begin a turn together.
    begin: Barrier,
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orders").field("burst", &self.burst).finish_non_exhaustive()
    }
}

/// The turn of one committer.
#[derive(Debug)]
struct Span {
    from: Duration,
    to: Duration,
    commits: Vec<f64>,
}

impl Crew {
    /// Threads are started where there is more than one committer.
    ///
    /// # Errors
    /// Where they can't be.
    pub fn new(committers: usize, burst: u64, record: Vec<u8>, clock: Clock) -> io::Result<Self> {
        let orders = Arc::new(Orders { burst, record, clock, begin: Barrier::new(committers) });
        let (tell, done) = mpsc::channel();
        let mut crew = Self { orders, jobs: Vec::new(), done, threads: Vec::new() };
        if committers > 1 {
            for committer in 0..committers {
                let (orders, tell) = (crew.orders.clone(), tell.clone());
                let (send, jobs) = mpsc::channel();
                let work = move || orders.work(committer, &jobs, &tell);
                crew.threads.push(std::thread::Builder::new().spawn(work)?);
                crew.jobs.push(send);
            }
        }
        Ok(crew)
    }

    /// One turn.
    ///
    /// # Errors
    /// What the subject says, or that it panicked.
    pub fn turn(&self, subject: &Arc<dyn Subject>) -> io::Result<Turn> {
        let spans = if self.jobs.is_empty() {
            vec![self.orders.commit(subject, 0)?]
        } else {
            let gone = |_| io::Error::other("a committer has ended");
            for job in &self.jobs {
                job.send(subject.clone()).map_err(|_| io::Error::other("a committer has ended"))?;
            }
            // All of them: the next turn begins when everybody is back.
            let spans = self.jobs.iter().map(|_| self.done.recv().map_err(gone).flatten());
            spans.collect::<Vec<_>>().into_iter().collect::<io::Result<Vec<_>>>()?
        };
        let from = spans.iter().map(|span| span.from).min().unwrap_or_default();
        let to = spans.iter().map(|span| span.to).max().unwrap_or_default();
        let commits = spans.into_iter().flat_map(|span| span.commits).collect();
        Ok(Turn { commits, took: to - from })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // what a subject panics with was caught
        }
    }
}

impl Orders {
    fn work(
        &self,
        committer: usize,
        jobs: &Receiver<Arc<dyn Subject>>,
        tell: &Sender<io::Result<Span>>,
    ) {
        for subject in jobs {
            self.begin.wait();
            let done = catch_unwind(AssertUnwindSafe(|| self.commit(&subject, committer)))
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            drop(subject); // first: who has opened it closes it
            if tell.send(done).is_err() {
                return;
            }
        }
    }

    fn commit(&self, subject: &Arc<dyn Subject>, committer: usize) -> io::Result<Span> {
        let mut commits = Vec::with_capacity(self.burst as usize);
        let from = (self.clock)();
        let mut to = from;
        for _ in 0..self.burst {
            let start = (self.clock)();
            subject.commit(committer, &self.record)?;
            to = (self.clock)();
            commits.push((to - start).as_nanos() as f64 / 1000.0);
        }
        Ok(Span { from, to, commits })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicU64);

    impl Subject for Counts {
        fn commit(&self, committer: usize, record: &[u8]) -> io::Result<()> {
            assert!(committer < 8 && record == [1; 3]);
            match self.0.fetch_add(1, Ordering::Relaxed) {
                200 => Err(io::Error::other("the disk is gone")),
                201.. => panic!("planted"),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn every_committer_commits_and_a_failure_or_panic_ends_the_turn() {
        for committers in [1, 8] {
            let crew = Crew::new(committers, 5, vec![1; 3], monotonic).unwrap();
            let counts = Arc::new(Counts::default());
            let subject: Arc<dyn Subject> = counts.clone();
            let each = committers * 5;
            for turn in 1..=200 / each {
                let found = crew.turn(&subject).unwrap();
                assert_eq!(found.commits.len(), each);
                assert_eq!(counts.0.load(Ordering::Relaxed), (turn * each) as u64);
            }
            assert!(crew.turn(&subject).is_err());
            if committers > 1 {
                assert!(crew.turn(&subject).unwrap_err().to_string().contains("panicked"));
            }
            assert_eq!(Arc::strong_count(&subject), 2, "nobody keeps it open");
        }
    }
}
