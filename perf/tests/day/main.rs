//! A day of a recorder in an hour: a service that is killed, told to stop and started again at once,
//! on a disk that fills up and stalls, beside a terminal that stops. What was lost is what the log
//! says, to the frame.
//!
//! `WRITEFLUSH_DAY=1h cargo test --package writeflush-cli --test day -- --nocapture`; a scene is drawn
//! from a seed, and `WRITEFLUSH_DAY_SEED=7` begins with that one.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod files;
mod judge;
mod log;
#[allow(dead_code)]
#[path = "../../../tests/common/mounts.rs"]
mod mounts;
mod scene;
#[path = "../../../tests/common/skip.rs"]
mod skip;
mod source;
mod stage;
mod supervisor;
#[allow(dead_code)]
#[path = "../common/terminals.rs"]
mod terminals;

use std::time::{Duration, Instant};

use self::judge::Tally;
use self::scene::Scene;
use self::source::Source;
use self::stage::Stage;
use self::supervisor::Supervisor;

/// A scene is no longer than this, and two find room in the shortest day.
const LONGEST: Duration = Duration::from_secs(16);

#[test]
fn what_was_lost_is_what_the_log_says() {
    if !mounts::may_mount("a day") {
        return;
    }
    own_mounts();
    let of = |name| std::env::var(name).ok();
    let day = of("WRITEFLUSH_DAY").map_or(Duration::from_secs(10), |day| {
        humantime::parse_duration(&day).expect("WRITEFLUSH_DAY is a time, such as 10m")
    });
    let mut seed = of("WRITEFLUSH_DAY_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let (began, mut total) = (Instant::now(), Tally::default());
    while began.elapsed() < day {
        let scene = Scene::draw(seed, LONGEST.min(day / 2));
        total += play(&scene).unwrap_or_else(|error| {
            panic!("{error}\n{scene:#?}\nWRITEFLUSH_DAY_SEED={seed} begins with this scene")
        });
        seed += 1;
    }
    println!("the day: {total:?}");
    assert!(total.kept > 0);
}

/// Mounts of this thread's and its children's own: they go with them.
fn own_mounts() {
    // SAFETY: no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mounts::run("mount", &["--make-rprivate", "/"]);
}

fn play(scene: &Scene) -> Result<Tally, String> {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let stage = Stage::set(place.path(), if scene.split.is_some() { 48 } else { 128 });
    let frame = scene.shape.frame() as usize;
    let mut source = Source::start(&stage.fifo, frame, scene.rate);
    let mut supervisor = Supervisor::new(scene, &stage);
    let played = supervisor.run(&mut source);
    source.stop();
    let told = source.told();
    let judged = played.and_then(|()| files::judge_all(scene, &stage, &supervisor.lives, &told));
    if judged.is_err() {
        files::keep(place.path());
    }
    let tally = judged?;
    let refused = judge::len(&told.refused);
    let logs = supervisor.lives.iter().filter_map(|life| log::Log::read(&life.log).ok());
    println!(
        "scene {}: {} frames, {refused} that the pipe had no room for, {tally:?}, {} recorders, which \
         waited for space {} times, {:?}",
        scene.seed,
        told.next,
        supervisor.lives.len(),
        logs.map(|log| log.waits).sum::<u64>(),
        supervisor.counts
    );
    Ok(tally)
}
