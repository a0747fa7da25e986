//! Messages in segments: what they are, and what has to be left of them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, ensure};
use writeflush::frames::segments::{Item, Options, Reader};
use writeflush::{BackendChoice, Drive, segments};

use crate::content::{bytes, salt};

/// Of all producers the one that writes messages.
const PRODUCER: u64 = 9;
/// Segments that a recording keeps which makes the next one of the oldest.
pub(crate) const KEPT: u64 = 1;
/// Messages of whoever goes on after the cut.
const MORE: u64 = 3;

/// The payload of a message: its length and its bytes follow from its number.
pub(crate) fn message(seed: u64, number: u64) -> Vec<u8> {
    let seed = salt(seed, PRODUCER, number);
    bytes(seed, 0, (seed >> 32) as usize % 3000)
}

/// What a recorder has left that was killed: so many messages, the last segment without its footer and
/// with the beginning of one more, and the segment that was ready.
pub(crate) fn leave(pattern: &Path, seed: u64, count: u64) -> anyhow::Result<()> {
    let mut writer = options(pattern, 9_000).open()?;
    for number in 0..count {
        // So that the head of the last segment knows no number, as that of one that is ready.
        while number + 1 == count && !writer.rotate()? {
            std::thread::yield_now();
        }
        let _ = writer.write(number, &message(seed, number))?;
    }
    writer.close()?;
    let segments = segments::list(pattern)?;
    let last = segments.last().context("no segment")?;
    let file = std::fs::read(&last.path)?;
    let index = file.last_chunk::<24>().context("no footer")?;
    let index = u64::from_le_bytes(index[..8].try_into()?) as usize;
    write_through(&last.path, &[&file[..index], &torn(seed)].concat())?;
    let ready = pattern.to_string_lossy().replace("{seq}", &(last.sequence + 1).to_string());
    write_through(Path::new(&ready), &file[..64])
}

fn write_through(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes)?;
    Ok(File::open(path)?.sync_all()?)
}

/// The beginning of a message, which never ended.
fn torn(seed: u64) -> Vec<u8> {
    bytes(salt(seed, PRODUCER, u64::from(u32::MAX)), 0, 500)
}

/// Whether that beginning is still there: in its segment, or beside it.
pub(crate) fn judge_tail(folder: &Path, seed: u64) -> anyhow::Result<()> {
    let torn = torn(seed);
    for entry in std::fs::read_dir(folder)? {
        let file = std::fs::read(entry?.path()); // or a directory
        if file.is_ok_and(|file| file.ends_with(&torn)) {
            return Ok(());
        }
    }
    anyhow::bail!("the damaged end of the recording before is gone")
}

/// Without a thread or a ring, which would hold the file system.
fn options(pattern: &Path, size: u64) -> Options {
    let below = writeflush::Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    Options::from(segments::Options::new(pattern).size(size).below(below))
}

/// Whether the durable messages are there, also for who goes on with the recording: each once, in its
/// order, and behind them whatever else is whole. `closed`: there are exactly so many. `recycles`: the
/// oldest may be gone, but for the segments that are kept. What is there is changed.
pub(crate) fn judge(
    pattern: &Path,
    seed: u64,
    durable: u64,
    closed: Option<u64>,
    recycles: bool,
) -> anyhow::Result<()> {
    let Found { numbers: found, segments } = read(pattern, seed)?;
    let gone = found.first().copied().unwrap_or(0);
    let kept = gone == 0 || recycles && segments >= KEPT;
    ensure!(kept, "it begins with {gone}, in {segments} segments");
    let whole = prefix(&found);
    ensure!(whole >= durable, "{whole} messages are left of {durable} durable ones: {found:?}");
    if let Some(all) = closed {
        let has_all = gone + found.len() as u64 == all && whole == all;
        ensure!(has_all, "{found:?} are there after the close");
    }
    let (mut writer, resumed) =
        options(pattern, 20_000).resume().context("nobody can go on with it")?;
    let next = resumed.next_sequence;
    ensure!(next >= whole, "it goes on with number {next}, and has {whole} messages");
    if let Some(cookie) = resumed.cookie {
        let number = cookie.next_sequence;
        ensure!(cookie.bytes == number.to_le_bytes(), "{cookie:?} was never written");
        ensure!(number <= whole, "a cookie of {number} messages, and {whole} are there");
    }
    for number in next..next + MORE {
        let _ = writer.write(number, &message(seed, number))?;
    }
    writer.close()?;
    let later = read(pattern, seed).context("after it went on")?.numbers;
    ensure!(prefix(&later) >= whole, "of {whole} messages {later:?} are left by who went on");
    ensure!(later.ends_with(&[next, next + 1, next + 2]), "{later:?}: it went on with {next}");
    Ok(())
}

/// What there is.
#[derive(Debug, Default)]
struct Found {
    /// Of the messages.
    numbers: Vec<u64>,
    /// That hold any.
    segments: u64,
}

/// Each message has to be what was written.
fn read(pattern: &Path, seed: u64) -> anyhow::Result<Found> {
    let reader = match Reader::open(pattern) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::default()),
        reader => reader?,
    };
    let Found { mut numbers, mut segments } = Found::default();
    let mut is_empty = true;
    for item in reader {
        // Holes and gaps are between the numbers that there are.
        let item = item?;
        is_empty |= matches!(item, Item::Segment(_));
        if let Item::Frame(frame) = item {
            segments += u64::from(std::mem::take(&mut is_empty));
            let (number, last) = (frame.sequence, numbers.last());
            ensure!(last.is_none_or(|last| *last < number), "{number} comes behind {last:?}");
            ensure!(frame.payload == message(seed, number), "message {number} is another one");
            numbers.push(number);
        }
    }
    Ok(Found { numbers, segments })
}

/// The first number that is missing behind the first that is there.
fn prefix(numbers: &[u64]) -> u64 {
    let first = numbers.first().copied().unwrap_or(0);
    first + (first..).zip(numbers).take_while(|(due, number)| due == *number).count() as u64
}
