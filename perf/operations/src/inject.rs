//! Regressions that a test plants, by the variable `WRITEFLUSH_INJECT`, to see whether the gate
//! sees them. They exist only with the feature `inject`.
//!
//! | value | what it adds to an operation |
//! |---|---|
//! | `slower:5` | 5 % of what operations took lately |
//! | `one-in-twenty` | one in twenty takes twice as long |
//! | `flush` | a device flush |
//! | `copy` | a copy of 4 KiB |
//! | `allocation` | an allocation |
//! | `wake` | a wake-up of another thread |
//! | `skipped-flush` | nothing: one flush in ten is left out, and promised all the same |
//!
//! Delays are relative to a running median, since what an operation takes drifts: one that was
//! calibrated before would be another percentage a minute later.

use std::collections::VecDeque;
use std::fs::File;
use std::hint::black_box;
use std::io::{PipeWriter, Read, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use writeflush_operation::{Failure, Operation};

const VARIABLE: &str = "WRITEFLUSH_INJECT";
/// Operations that the running median looks back.
const WINDOW: usize = 101;
/// Of 1 / this, one is hit.
const SELDOM: usize = 20;
/// Of so many flushes one is left out.
const LEFT_OUT: u64 = 10;
const COPIED: usize = 4096;

/// With what the environment asks for; without it as it is.
pub(crate) fn into(operation: impl Operation + 'static, folder: &Path) -> crate::Begun {
    Ok(match asked() {
        None => Box::new(operation),
        Some(text) => Box::new(With { operation, planted: Planted::new(text, folder)? }),
    })
}

/// What the environment asked for when it was looked at first.
fn asked() -> Option<&'static str> {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    ASKED.get_or_init(read).as_deref()
}

pub(crate) fn skips_the_flush() -> bool {
    static FLUSHES: AtomicU64 = AtomicU64::new(0);
    asked() == Some("skipped-flush")
        && FLUSHES.fetch_add(1, Ordering::Relaxed).is_multiple_of(LEFT_OUT)
}

enum Planted {
    Slower {
        percent: f64,
        lately: Lately,
    },
    OneInTwenty(fastrand::Rng),
    Flush(File),
    Copy {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Allocation,
    /// To a thread that waits for a byte.
    Wake(PipeWriter),
    /// Elsewhere: [`skips_the_flush`].
    SkippedFlush,
}

impl Planted {
    fn new(text: &str, folder: &Path) -> Result<Self, Failure> {
        let (word, number) = text.split_once(':').unwrap_or((text, ""));
        Ok(match word {
            "slower" => Self::Slower { percent: number.parse()?, lately: Lately::default() },
            "one-in-twenty" => Self::OneInTwenty(fastrand::Rng::new()),
            "flush" => Self::Flush(File::create(folder.join("flushed"))?),
            "copy" => Self::Copy { from: vec![1; COPIED], to: vec![0; COPIED] },
            "allocation" => Self::Allocation,
            "wake" => Self::Wake(sleeper()?),
            "skipped-flush" => Self::SkippedFlush,
            _ => return Err(format!("{VARIABLE} does not know '{text}'").into()),
        })
    }

    /// After `times` operations that began at `start`.
    fn add(&mut self, times: u64, start: Instant) -> Result<(), Failure> {
        let took = start.elapsed();
        match self {
            Self::Slower { percent, lately } => {
                let usual = lately.median_with(took / times.max(1) as u32);
                spin(start, took + usual.mul_f64(*percent / 100.0 * times as f64));
            }
            Self::OneInTwenty(random) => {
                if random.usize(..SELDOM) == 0 {
                    spin(start, 2 * took);
                }
            }
            _ => {
                for _ in 0..times {
                    self.once()?;
                }
            }
        }
        Ok(())
    }

    fn once(&mut self) -> Result<(), Failure> {
        match self {
            Self::Flush(file) => file.sync_data()?,
            Self::Copy { from, to } => black_box(&mut *to).copy_from_slice(black_box(from)),
            Self::Allocation => drop(black_box(Box::new(0u64))),
            Self::Wake(pipe) => pipe.write_all(&[0])?,
            Self::Slower { .. } | Self::OneInTwenty(_) | Self::SkippedFlush => {}
        }
        Ok(())
    }
}

/// A thread that sleeps until a byte comes. It ends with the pipe.
fn sleeper() -> Result<PipeWriter, Failure> {
    let (mut reader, writer) = std::io::pipe()?;
    std::thread::Builder::new().name("sleeper".into()).spawn(move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() {}
    })?;
    Ok(writer)
}

/// Until so long after `start`: what was reckoned meanwhile is a part of the delay.
fn spin(start: Instant, time: Duration) {
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What operations took lately.
#[derive(Default)]
struct Lately(VecDeque<Duration>);

impl Lately {
    /// The median, this one included.
    fn median_with(&mut self, took: Duration) -> Duration {
        self.0.push_back(took);
        if self.0.len() > WINDOW {
            self.0.pop_front();
        }
        let mut all: Vec<Duration> = self.0.iter().copied().collect();
        let middle = all.len() / 2;
        *all.select_nth_unstable(middle).1
    }
}

struct With<O> {
    operation: O,
    planted: Planted,
}

impl<O: Operation> Operation for With<O> {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.operation.prepare(times)
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.repeat(1)
    }

    fn repeat(&mut self, times: u64) -> Result<(), Failure> {
        let start = Instant::now();
        self.operation.repeat(times)?;
        self.planted.add(times, start)
    }

    fn end(self: Box<Self>) -> Result<(), Failure> {
        Box::new(self.operation).end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_median_follows_what_operations_take() {
        let mut lately = Lately::default();
        let ms = Duration::from_millis;
        let first: Vec<_> = (1..=3).map(|n| lately.median_with(ms(n))).collect();
        assert_eq!(first, [ms(1), ms(2), ms(2)]);
        for _ in 0..WINDOW {
            lately.median_with(ms(50));
        }
        assert_eq!(lately.median_with(ms(1)), ms(50));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = Planted::new("nonsense", folder.path()).err().expect("a refusal");
        assert!(refused.to_string().contains("nonsense"));
        let known = ["slower:5", "one-in-twenty", "flush", "copy", "allocation", "wake"];
        for text in known.into_iter().chain(["skipped-flush"]) {
            let mut planted = Planted::new(text, folder.path()).expect(text);
            planted.add(3, Instant::now()).expect(text);
        }
    }
}
