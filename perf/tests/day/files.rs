//! What the recorders of a scene have left, as the judge wants it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::judge::{self, End, Kept, Life, Tally};
use super::log::{Closed, Log};
use super::scene::{Scene, Shape};
use super::skip;
use super::source::{Told, read_frames};
use super::stage::Stage;
use super::supervisor::{Past, archived};

/// What the reading thread may have in its hands: eight pieces of 64 KiB.
const PIECES: u64 = 8 * (64 << 10);
/// Segments that a recorder may hold in memory: one that is filled, the next, and four that are closed.
const SEGMENTS: u64 = 6;

/// The pieces of memory of a recording in flight, in frames.
fn memory(scene: &Scene) -> u64 {
    let files = if scene.split.is_some() { SEGMENTS } else { 1 };
    (files * scene.buffers * scene.buffer_size + PIECES) / scene.shape.frame() + 1
}

/// Judges all recorders of a scene.
pub fn judge_all(
    scene: &Scene,
    stage: &Stage,
    lives: &[Past],
    told: &Told,
) -> Result<Tally, String> {
    let logs: Vec<Log> = lives.iter().map(|past| Log::read(&past.log)).collect::<Result<_, _>>()?;
    let removed: BTreeSet<PathBuf> = logs.iter().flat_map(|log| log.removed.clone()).collect();
    let path = stage.disk.join(scene.name());
    let whole = match scene.split {
        None => Some(Recording::read(scene, &path, true)?),
        Some(_) => None,
    };
    if let Some(whole) = &whole {
        judge::check_order(&whole.runs)?;
    }
    let (mut total, mut all) = (Tally::default(), Vec::new());
    for (index, (past, log)) in lives.iter().zip(&logs).enumerate() {
        let said = |error: String| format!("recorder {index} ({}): {error}", past.status);
        let kept = match &whole {
            Some(whole) => judge::part(&whole.runs, &(past.from..past.to))
                .into_iter()
                .map(Kept::Frames)
                .collect(),
            None => segments(scene, stage, past, log, &removed).map_err(said)?,
        };
        log.check_losses().map_err(said)?;
        let header = whole.as_ref().map_or(0, |whole| whole.header);
        // One file goes on; the positions of segments begin anew.
        let base = if whole.is_some() { total.kept } else { 0 };
        let life = life(scene, past, log, told, kept, header, base).map_err(said)?;
        total += judge::judge(&life).map_err(said)?;
        let frames = |kept: &Kept| match kept {
            Kept::Frames(run) => vec![run.clone()],
            Kept::Removed(_) | Kept::Border | Kept::Gone => Vec::new(),
        };
        all.extend(life.kept.iter().flat_map(frames));
    }
    judge::check_order(&all)?;
    match whole {
        Some(whole) if judge::len(&whole.runs) != total.kept => {
            Err(format!("{:?} hold more than the recorders took", whole.runs))
        }
        _ => Ok(total),
    }
}

fn life(
    scene: &Scene,
    past: &Past,
    log: &Log,
    told: &Told,
    kept: Vec<Kept>,
    header: u64,
    base: u64,
) -> Result<Life, String> {
    let frame = scene.shape.frame();
    let frames = |bytes: u64| match bytes % frame {
        0 => Ok(bytes / frame),
        _ => Err(format!("{bytes} bytes of the log are no whole frames of {frame}")),
    };
    let below = |position: u64| position.saturating_sub(header) / frame;
    let lost = log
        .lost
        .iter()
        .map(|&(at, bytes)| Ok((frames(at.saturating_sub(header))?, frames(bytes)?)));
    let input = frames(log.figure("input_bytes"))?;
    let end = match log.status() {
        None if past.status.signal().is_some() => {
            End::Killed { written: below(log.written), memory: memory(scene) }
        }
        Some("complete" | "interrupted") => End::Ended { input },
        Some("failed") => End::Failed { input, durable: below(log.figure("durable_bytes")) },
        Some("refused") => End::Refused,
        other => return Err(format!("it ended with {other:?}")),
    };
    let is_whole = matches!(end, End::Ended { .. }) && log.figure("overrun_bytes") == 0;
    // Killed behind its report, it has none.
    if past.status.signal().is_none() && is_whole != past.status.success() {
        return Err("its exit status is not what its report says".into());
    }
    Ok(Life {
        took: judge::without(&(past.from..past.to), &told.refused),
        kept,
        base,
        lost: lost.collect::<Result<_, String>>()?,
        end,
    })
}

/// What is left of the segments of a recorder.
fn segments(
    scene: &Scene,
    stage: &Stage,
    past: &Past,
    log: &Log,
    removed: &BTreeSet<PathBuf>,
) -> Result<Vec<Kept>, String> {
    let mut all: BTreeMap<&PathBuf, Option<&Closed>> =
        past.left().map(|path| (path, None)).collect();
    all.extend(log.closed.iter().map(|closed| (&closed.path, Some(closed))));
    if past.status.success() && all.len() > log.closed.len() {
        return Err(format!("it has left more than it has closed: {:?}", all.keys()));
    }
    let (mut kept, mut position, mut is_behind_open) = (Vec::new(), 0, false);
    for (path, closed) in all {
        let archived = archived(stage, &past.log, path);
        let file = if archived.exists() { &archived } else { path };
        let Some(closed) = closed else {
            if removed.contains(path) {
                kept.push(Kept::Gone);
                return Ok(kept);
            }
            recover(scene, file)?;
            kept.push(Kept::Border);
            kept.extend(Recording::read(scene, file, false)?.runs.into_iter().map(Kept::Frames));
            is_behind_open = true;
            continue;
        };
        // On a disk that fails one segment the next may be closed all the same.
        match closed.position.cmp(&position) {
            Ordering::Equal => {}
            Ordering::Greater if is_behind_open => kept.push(Kept::Border),
            _ => return Err(format!("{closed:?} does not begin where the last ended, {position}")),
        }
        (position, is_behind_open) = (closed.position + closed.bytes, false);
        if removed.contains(path) {
            kept.push(Kept::Removed(closed.bytes / scene.shape.frame()));
            continue;
        }
        let read = Recording::read(scene, file, true)?;
        let frames = judge::len(&read.runs);
        if frames * scene.shape.frame() != closed.bytes {
            return Err(format!("{closed:?} has {frames} frames"));
        }
        kept.extend(read.runs.into_iter().map(Kept::Frames));
    }
    Ok(kept)
}

pub fn recover(scene: &Scene, path: &Path) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush"));
    command.arg("recover").arg(path);
    command.args(["--frame", &scene.shape.frame().to_string()]);
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr)))
}

/// The frames of a file.
struct Recording {
    header: u64,
    runs: Vec<Range<u64>>,
}

impl Recording {
    /// One that was `closed` has a header of all, and others can read it.
    fn read(scene: &Scene, path: &Path, closed: bool) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let bytes = fs::read(path).map_err(|error| said(&error))?;
        let frame = scene.shape.frame() as usize;
        let begins = match scene.shape {
            Shape::Raw { .. } => 0,
            Shape::Wav { .. } if bytes.is_empty() => 0,
            Shape::Wav { .. } => check_header(&bytes).map_err(|error| said(&error))?,
        };
        let len = match scene.shape {
            Shape::Wav { .. } if begins > 0 => word(&bytes, begins - 4),
            _ => bytes.len(),
        };
        let data = bytes.get(begins..).unwrap_or_default();
        let runs =
            read_frames(&data[..len.min(data.len())], frame).map_err(|error| said(&error))?;
        if closed && begins > 0 && len > 0 {
            check_readers(path, (len / frame) as u64)?;
        }
        Ok(Self { header: begins as u64, runs })
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Where the data begins. The header describes the file to its last byte.
fn check_header(bytes: &[u8]) -> Result<usize, String> {
    let begins = [80, 104].into_iter().find(|at| bytes.get(at - 8..at - 4) == Some(b"data"));
    let begins = begins.ok_or_else(|| format!("no header in {} bytes", bytes.len()))?;
    let (riff, data) = (word(bytes, 4), word(bytes, begins - 4));
    let end = begins + data.next_multiple_of(2);
    if (riff + 8, bytes.len()) == (end, end) {
        return Ok(begins);
    }
    Err(format!("a header of {data} bytes of data, {riff} in all, of {} bytes", bytes.len()))
}

/// Others read every frame.
fn check_readers(path: &Path, frames: u64) -> Result<(), String> {
    let ffprobe = ["-v", "error", "-show_entries", "stream=duration_ts", "-of", "csv=p=0"];
    for (program, args) in [("soxi", &["-s"][..]), ("ffprobe", &ffprobe)] {
        let Ok(output) = Command::new(program).args(args).arg(path).output() else {
            skip::skip(program, "it is not installed");
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        if said.trim() != frames.to_string() {
            let path = path.display();
            return Err(format!("{path}: {program} sees {} frames of {frames}", said.trim()));
        }
    }
    Ok(())
}

/// Leaves the logs to whoever looks for the reason.
pub fn keep(place: &Path) {
    let kept = place.with_file_name("day-that-failed");
    let _ = fs::remove_dir_all(&kept);
    let copied =
        Command::new("cp").args(["-r", "--no-preserve=mode"]).arg(place).arg(&kept).status();
    println!("kept in {} ({copied:?})", kept.display());
}
