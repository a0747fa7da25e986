//! The whole pipeline with many threads: producers, waiters, tasks, patchers, whoever closes, the
//! driver, and a device that has all the time in the world.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --lib sim::threads` runs each program in many
//! orders of events, `WRITEFLUSH_SCHEDULES` of each kind. Where one fails, or all of its threads
//! wait for one another, the schedule is printed; the same command with `WRITEFLUSH_SCHEDULE=…` and
//! the test's name runs that one again.

mod explore;
mod failures;
mod rig;
mod sharing;
