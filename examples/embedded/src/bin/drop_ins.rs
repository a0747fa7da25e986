//! What the producer pays, beside what writeflush replaces, in one run: `tracing` through
//! tracing-appender's non-blocking writer, and MCAP through a `BufWriter` over a file. Each takes
//! 100,000 messages of 1 KB as fast as they come, in turns; then all of them are counted in the file.
//!
//! `cargo run --release --bin drop_ins -- FOLDER`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mcap::{Channel, Message, WriteOptions};
use tracing_subscriber::fmt::MakeWriter;
use writeflush::{Options, SharedWriter};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BYTES: usize = 1000;

/// What one of them took.
#[derive(Clone, Copy)]
struct Turn {
    /// Nanoseconds of the producer for a message.
    push: f64,
    /// Milliseconds from the last message until all of them were durable.
    rest: f64,
    lost: usize,
}

/// A way to record so many messages to a file: how long the producer took, once all are durable.
type Way = fn(&Path, u32) -> Result<f64>;

const WAYS: [(&str, Way, fn(&[u8]) -> usize); 4] = [
    ("tracing, tracing-appender", appender, lines),
    ("tracing, writeflush", sink, lines),
    ("MCAP, BufWriter", mcap_to_a_file, messages),
    ("MCAP, writeflush", mcap_to_writeflush, messages),
];

// ---- tracing ------------------------------------------------------------------------------------------

/// One event, one record. Waits where there is no room, so that nothing is lost.
struct Line(SharedWriter);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log<W>(writer: W, messages: u32) -> f64
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = "x".repeat(BYTES);
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, || {
        let begun = Instant::now();
        (0..messages).for_each(|number| tracing::info!(number, "{text}"));
        begun.elapsed().as_secs_f64()
    })
}

fn appender(path: &Path, messages: u32) -> Result<f64> {
    let file = File::create(path)?;
    let (writer, guard) = tracing_appender::non_blocking(file.try_clone()?);
    let took = log(writer, messages);
    drop(guard); // waits for its thread
    file.sync_data()?;
    Ok(took)
}

fn sink(path: &Path, messages: u32) -> Result<f64> {
    let writer = Options::new().create(path)?.into_shared();
    let sink = writer.clone();
    let took = log(move || Line(sink.clone()), messages);
    writer.close()?;
    Ok(took)
}

fn lines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"xxx")).count()
}

// ---- MCAP ---------------------------------------------------------------------------------------------

fn record<W: Write + Seek>(writer: W, messages: u32) -> Result<f64> {
    let mut mcap = WriteOptions::new().compression(None).create(writer)?;
    let channel = Arc::new(Channel {
        id: 0,
        topic: "telemetry".into(),
        schema: None,
        message_encoding: "bytes".into(),
        metadata: BTreeMap::new(),
    });
    let data = vec![7; BYTES];
    let begun = Instant::now();
    for sequence in 0..messages {
        let time = u64::from(sequence) * 1_000_000;
        let (log_time, publish_time, data) = (time, time, data.as_slice().into());
        mcap.write(&Message { channel: channel.clone(), sequence, log_time, publish_time, data })?;
    }
    let took = begun.elapsed().as_secs_f64();
    mcap.finish()?;
    Ok(took)
}

fn mcap_to_a_file(path: &Path, messages: u32) -> Result<f64> {
    let file = File::create(path)?;
    let took = record(BufWriter::new(&file), messages)?;
    file.sync_data()?;
    Ok(took)
}

fn mcap_to_writeflush(path: &Path, messages: u32) -> Result<f64> {
    let mut writer = Options::new().create(path)?;
    let took = record(&mut writer, messages)?;
    writer.close()?;
    Ok(took)
}

fn messages(bytes: &[u8]) -> usize {
    mcap::MessageStream::new(bytes).map_or(0, |all| all.map_while(std::result::Result::ok).count())
}

// ---- in turns -----------------------------------------------------------------------------------------

fn turn(folder: &Path, way: usize, count: u32) -> Result<Turn> {
    let (_, record, count_in) = WAYS[way];
    let path = folder.join("take");
    let begun = Instant::now();
    let took = record(&path, count)?;
    let rest = (begun.elapsed().as_secs_f64() - took) * 1e3;
    let lost = count as usize - count_in(&std::fs::read(&path)?);
    std::fs::remove_file(&path)?;
    Ok(Turn { push: took * 1e9 / f64::from(count), rest, lost })
}

fn median(of: &[Turn], value: fn(&Turn) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = of.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

fn main() -> Result<()> {
    const LAPS: usize = 7;
    const MESSAGES: u32 = 100_000;
    let folder = std::env::args().nth(1).unwrap_or(".".into());
    let folder = tempfile::tempdir_in(folder)?;
    let mut turns = vec![Vec::new(); WAYS.len()];
    for lap in 0..LAPS {
        for at in 0..WAYS.len() {
            let way = if lap % 2 == 0 { at } else { WAYS.len() - 1 - at }; // there and back
            turns[way].push(turn(folder.path(), way, MESSAGES)?);
        }
    }
    println!("{MESSAGES} messages of {BYTES} bytes, median [least, most] of {LAPS}");
    for ((name, ..), turns) in WAYS.iter().zip(&turns) {
        let [push, least, most] = median(turns, |turn| turn.push);
        let [rest, ..] = median(turns, |turn| turn.rest);
        let lost: usize = turns.iter().map(|turn| turn.lost).sum();
        println!(
            "{name:28} {push:6.0} ns a message [{least:.0}, {most:.0}], durable {rest:.0} ms \
             later; {lost} lost"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_leaves_every_message() {
        let directory = tempfile::tempdir().unwrap();
        for (way, (name, ..)) in WAYS.iter().enumerate() {
            assert_eq!(turn(directory.path(), way, 500).unwrap().lost, 0, "{name}");
        }
    }
}
