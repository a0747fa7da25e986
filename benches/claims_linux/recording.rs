//! What a recording costs that somebody reads along, and how long one takes to be recovered.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use writeflush::follow::{Follower, Watermark};
use writeflush::frames::{self, segments};
use writeflush::{Direct, Options, Positions};
use writeflush_workloads::{Arms, Centre, FileState, forget, shuffled};

use super::{Row, Scratch, row};

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let rows = [followed(scratch), recycled(scratch), recovered(scratch), resumed(scratch)];
    rows.into_iter().flatten().collect()
}

// ---- a follower beside a writer ---------------------------------------------------------------------

/// The word that makes a process of this program a follower of the path behind it.
pub const FOLLOW: &str = "follow-this";
const STRETCH: Duration = Duration::from_millis(300);
const ROUNDS: usize = 30;
const RECORD: usize = 4 << 10;

/// Until the writer ends, or its parent ends it.
pub fn follow(path: &str) {
    let mut follower = Follower::open(path, Watermark::Durable).expect("a file that is followed");
    let mut bytes = vec![0; 1 << 20];
    println!("reads");
    while follower.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

fn spawn_follower(path: &Path) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .arg(FOLLOW)
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a follower");
    let mut begun = [0; 5];
    child.stdout.as_mut().expect("its words").read_exact(&mut begun).expect("it reads");
    child
}

/// Durable MB a second of a writer that is flushed every so many records.
fn writes(path: &Path, (every, direct): (u64, Direct), is_read: bool) -> f64 {
    FileState::Growing.prepare(path, 0).expect("a prepared file");
    let options = Options::new().followed(true).direct(direct);
    let mut writer = options.create(path).expect("the writer opens");
    let follower = is_read.then(|| spawn_follower(path));
    let record = [7; RECORD];
    let start = Instant::now();
    while start.elapsed() < STRETCH {
        for _ in 0..every {
            let _ = writer.write(&record).expect("a write");
        }
        writer.flush().expect("a flush");
    }
    let Positions { durable, .. } = writer.positions();
    let rate = durable as f64 / start.elapsed().as_secs_f64() / 1e6;
    writer.close().expect("a close");
    if let Some(mut child) = follower {
        child.wait().expect("it ends with its writer");
    }
    rate
}

fn followed(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("followed");
    let ways = [(1, Direct::Auto), (256, Direct::Auto), (1, Direct::On), (256, Direct::On)];
    let mut arms = Arms::new(2 * ways.len());
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        for arm in shuffled(2 * ways.len(), &mut random) {
            arms.add(arm, writes(&path, ways[arm / 2], arm % 2 == 1));
        }
        arms.end_block();
    }
    let rate = |arm: usize| format!("{:.1} MB/s", arms.quantile(arm, 0.5));
    let versus = |id: &str, alone: usize, what: &str| {
        let name = format!("{what} and followed ({}) / alone ({})", rate(alone + 1), rate(alone));
        let ratio = arms.ratio(alone + 1, alone, Centre::Trimmed).expect("whole rounds");
        row(format!("follow.{id}"), name, ratio.to_string(), "≥ 0.98")
    };
    vec![
        versus("4k", 0, "flushed each 4 KiB"),
        versus("1m", 2, "flushed each 1 MiB"),
        versus("4k.direct", 4, "each 4 KiB, direct I/O"),
        versus("1m.direct", 6, "each 1 MiB, direct I/O"),
    ]
}

// ---- segments that are made of older ones -------------------------------------------------------------

const SEGMENT: u64 = 1 << 20;
/// Its frame is a record long.
const PAYLOAD: [u8; RECORD - 40] = [7; RECORD - 40];

/// A recording of messages in segments, of which two are kept.
fn in_segments(pattern: &Path, recycle: bool) -> segments::Writer {
    let files = writeflush::segments::Options::new(pattern).size(SEGMENT).keep_count(2);
    let options = segments::Options::from(files.recycle(recycle));
    let mut writer = options.open().expect("the recording begins");
    while writer.stats().removed < 3 {
        commit(&mut writer);
    }
    writer
}

fn commit(writer: &mut segments::Writer) {
    let _ = writer.write(0, &PAYLOAD).expect("a message");
    writer.flush().expect("a flush");
}

/// As many commits as some segments take, rotations among them.
fn recycled(scratch: &Scratch) -> Vec<Row> {
    const COMMITS: usize = 2 * (SEGMENT as usize / RECORD);
    let folders = ["new", "recycled"].map(|name| scratch.path(name));
    let mut writers = folders.clone().map(|folder| {
        std::fs::create_dir(&folder).expect("a folder");
        in_segments(&folder.join("{seq}"), folder.ends_with("recycled"))
    });
    let mut arms = Arms::new(2);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        for arm in shuffled(2, &mut random) {
            let start = Instant::now();
            (0..COMMITS).for_each(|_| commit(&mut writers[arm]));
            arms.add(arm, start.elapsed().as_secs_f64() * 1e6 / COMMITS as f64);
        }
        arms.end_block();
    }
    let [new, recycled] = writers;
    let (stats, us) = (recycled.stats(), |arm| arms.quantile(arm, 0.5));
    let name = format!(
        "4 KiB durable in segments of 1 MiB that are recycled ({:.0} µs, {} of {}) / new ({:.0} µs)",
        us(1),
        stats.recycled,
        stats.removed,
        us(0)
    );
    let ratio = arms.ratio(1, 0, Centre::Trimmed).expect("whole rounds");
    for (writer, folder) in [new, recycled].into_iter().zip(folders) {
        writer.close().expect("a close");
        std::fs::remove_dir_all(folder).expect("the folder goes");
    }
    vec![row("segments.recycled", name, ratio.to_string(), "< 1")]
}

// ---- recovery -----------------------------------------------------------------------------------------

const MESSAGE: usize = 16 << 10;
const RECOVERIES: usize = 5;

/// `WRITEFLUSH_RECOVERY_GIB`, else one.
fn recovery_bytes() -> u64 {
    let gib = std::env::var("WRITEFLUSH_RECOVERY_GIB").ok();
    gib.map_or(1, |gib| gib.parse::<u64>().expect("a number of GiB")) << 30
}

/// A framed file without its footer, as a kill leaves it.
fn killed(path: &Path, bytes: u64) {
    let mut writer = frames::Options::default().create(path).expect("the writer opens");
    let message = vec![7; MESSAGE];
    while writer.position() < bytes {
        let _ = writer.write(0, &message).expect("a message");
    }
    writer.into_inner().close().expect("a close");
}

/// Reads a file with direct I/O, one large read behind the other, and nothing else.
fn read_all(path: &Path) {
    const PIECE: usize = 4 << 20;
    let mut direct = std::fs::OpenOptions::new();
    let direct = direct.read(true).custom_flags(libc::O_DIRECT).open(path);
    let mut file = direct.or_else(|_| File::open(path)).expect("the file opens");
    let mut memory = vec![0; PIECE + 4096];
    let at = memory.as_ptr().align_offset(4096);
    while file.read(&mut memory[at..at + PIECE]).expect("a read") > 0 {}
}

fn recovered(scratch: &Scratch) -> Vec<Row> {
    let (path, bytes) = (scratch.path("killed"), recovery_bytes());
    killed(&path, bytes);
    let mut arms = Arms::new(2);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..RECOVERIES {
        for arm in shuffled(2, &mut random) {
            forget(&File::open(&path).expect("the file opens")).expect("a cold file");
            let start = Instant::now();
            match arm {
                0 => read_all(&path),
                _ => drop(frames::recover(&path).expect("a recovery")),
            }
            arms.add(arm, bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
        arms.end_block();
    }
    std::fs::remove_file(&path).expect("the file goes");
    let rate = |arm: usize| format!("{:.0} MB/s", arms.quantile(arm, 0.5));
    let name = format!(
        "recovery of {} GiB ({}) / direct reads of 4 MiB ({})",
        bytes >> 30,
        rate(1),
        rate(0)
    );
    let ratio = arms.ratio(1, 0, Centre::Trimmed).expect("whole rounds");
    vec![row("recovery", name, ratio.to_string(), "≥ 0.9")]
}

/// A thousand segments, the last of which has lost its end.
fn resumed(scratch: &Scratch) -> Vec<Row> {
    const SEGMENTS: u64 = 1000;
    let folder = scratch.path("segments");
    std::fs::create_dir(&folder).expect("a folder");
    let options = || {
        let files = writeflush::segments::Options::new(folder.join("take-{seq:06}"));
        segments::Options::from(files.size(MESSAGE as u64))
    };
    let mut writer = options().open().expect("the writer opens");
    for _ in 1..SEGMENTS {
        let _ = writer.write(0, &[7; MESSAGE / 2]).expect("a message");
        while !writer.rotate().expect("a rotation") {
            std::thread::yield_now();
        }
    }
    let mut times = Vec::new();
    for _ in 0..RECOVERIES {
        let _ = writer.write(0, &[7; MESSAGE / 2]).expect("a message");
        writer.close().expect("a close");
        lose_the_end(&folder);
        let start = Instant::now();
        writer = options().resume().expect("a resume").0;
        times.push(start.elapsed().as_secs_f64());
    }
    writer.close().expect("a close");
    times.sort_by(f64::total_cmp);
    let [least, median, most] = [0, RECOVERIES / 2, RECOVERIES - 1].map(|at| times[at] * 1e3);
    let figure = format!("{median:.0} ms [{least:.0}, {most:.0}]");
    vec![row("resume", format!("resume of {SEGMENTS} segments"), figure, "≤ 1 s")]
}

/// The newest file has no footer any more, and half a message.
fn lose_the_end(folder: &Path) {
    let files = std::fs::read_dir(folder).expect("the folder");
    let newest = files.map(|entry| entry.expect("an entry").path()).max().expect("a file");
    let file = File::options().write(true).open(newest).expect("the file opens");
    file.set_len(MESSAGE as u64 / 4).expect("a cut");
}
