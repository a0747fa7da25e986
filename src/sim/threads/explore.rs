//! Runs a program of many threads again and again, in other orders each time.

/// How many schedules of each kind, from the environment.
#[cfg(shuttle)]
const SCHEDULES: &str = "WRITEFLUSH_SCHEDULES";
/// A schedule to run again, as a failure has printed it.
#[cfg(shuttle)]
const SCHEDULE: &str = "WRITEFLUSH_SCHEDULE";

/// Under shuttle: in so many random orders, then in as many that differ in few places from running
/// one thread after another (which is where most bugs show: "A Randomized Scheduler with
/// Probabilistic Guarantees of Finding Bugs", ASPLOS 2010).
#[cfg(shuttle)]
pub(super) fn explore(program: fn(&mut fastrand::Rng)) {
    use shuttle::rand::RngCore;
    use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};

    /// Switches to another thread where it could have gone on: so many in an order of the second kind.
    const DEPTH: usize = 4;

    fn run(scheduler: impl Scheduler + 'static, program: fn(&mut fastrand::Rng)) {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config.max_steps = shuttle::MaxSteps::FailAfter(300_000); // past it, something goes in circles
        config.silence_warnings = true; // memory orders are loom's part
        // The seed comes from the scheduler, so that a schedule says everything.
        let seed = || shuttle::rand::thread_rng().next_u64();
        let body = move || program(&mut fastrand::Rng::with_seed(seed()));
        shuttle::Runner::new(scheduler, config).run(body);
    }

    if let Ok(schedule) = std::env::var(SCHEDULE) {
        return run(ReplayScheduler::new_from_encoded(&schedule), program);
    }
    let schedules = std::env::var(SCHEDULES).map(|text| text.parse().expect("a number"));
    let schedules = schedules.unwrap_or(200);
    run(RandomScheduler::new(schedules), program);
    run(PctScheduler::new(DEPTH, schedules), program);
}

/// Otherwise a few times on threads of the operating system, for what watches real memory
/// (ThreadSanitizer, AddressSanitizer).
#[cfg(not(shuttle))]
pub(super) fn explore(program: fn(&mut fastrand::Rng)) {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    let limit = std::env::var("WRITEFLUSH_HANG").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_secs(limit.unwrap_or(120));
    for seed in 0..50 {
        let (tell, told) = channel::<()>();
        let run = std::thread::spawn(move || {
            let _tell = tell; // dropped at the end, however it ends
            program(&mut fastrand::Rng::with_seed(seed));
        });
        let ended = told.recv_timeout(limit);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "HANG with seed {seed}");
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
