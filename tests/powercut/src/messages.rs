//! Messages in segments: what they are, and what has to be left of them.

use std::path::Path;

use anyhow::{Context, ensure};
use writeflush::frames::segments::{Item, Options, Reader};
use writeflush::{BackendChoice, Drive, segments};

use crate::content::{bytes, salt};

/// Of all producers the one that writes messages.
const PRODUCER: u64 = 9;
/// Messages of whoever goes on after the cut.
const MORE: u64 = 3;

/// The payload of a message: its length and its bytes follow from its number.
pub(crate) fn message(seed: u64, number: u64) -> Vec<u8> {
    let seed = salt(seed, PRODUCER, number);
    bytes(seed, 0, (seed >> 32) as usize % 3000)
}

/// Whether the durable messages are there, also for who goes on with the recording: each once, in its
/// order, and behind them whatever else is whole. `closed`: there are exactly so many. What is there
/// is changed.
pub(crate) fn judge(
    pattern: &Path,
    seed: u64,
    durable: u64,
    closed: Option<u64>,
) -> anyhow::Result<()> {
    let found = read(pattern, seed)?;
    let whole = prefix(&found);
    ensure!(whole >= durable, "{whole} messages are left of {durable} durable ones: {found:?}");
    if let Some(all) = closed {
        ensure!(found.len() as u64 == all && whole == all, "{found:?} are there after the close");
    }
    // Without a thread or a ring, which would hold the file system.
    let below = writeflush::Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    let options = Options::from(segments::Options::new(pattern).size(20_000).below(below));
    let (mut writer, resumed) = options.resume().context("nobody can go on with it")?;
    let next = resumed.next_sequence;
    ensure!(next >= whole, "it goes on with number {next}, and has {whole} messages");
    for number in next..next + MORE {
        let _ = writer.write(number, &message(seed, number))?;
    }
    writer.close()?;
    let later = read(pattern, seed).context("after it went on")?;
    ensure!(prefix(&later) >= whole, "of {whole} messages {later:?} are left by who went on");
    ensure!(later.ends_with(&[next, next + 1, next + 2]), "{later:?}: it went on with {next}");
    Ok(())
}

/// The numbers of the messages, each of which has to be what was written.
fn read(pattern: &Path, seed: u64) -> anyhow::Result<Vec<u64>> {
    let reader = match Reader::open(pattern) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        reader => reader?,
    };
    let mut numbers: Vec<u64> = Vec::new();
    for item in reader {
        // Holes and gaps are between the numbers that there are.
        if let Item::Frame(frame) = item? {
            let (number, last) = (frame.sequence, numbers.last());
            ensure!(last.is_none_or(|last| *last < number), "{number} comes behind {last:?}");
            ensure!(frame.payload == message(seed, number), "message {number} is another one");
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// How many there are before the first that is missing.
fn prefix(numbers: &[u64]) -> u64 {
    (0..).zip(numbers).take_while(|(due, number)| due == *number).count() as u64
}
