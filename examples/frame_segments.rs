//! Messages in a recording that never ends: short segments of which the newest twenty stay, read from a
//! time, and followed while they are written.
//!
//! `cargo run --example frame_segments -- FOLDER record` records until it is interrupted, or killed: the next
//! run goes on with the next number. `-- FOLDER record 3` ends after three seconds. Beside it, or later:
//! `-- FOLDER read` prints what is there, `-- FOLDER read 10` what came in the last ten seconds, and
//! `-- FOLDER follow` what comes, once it is durable (Linux).

use std::path::{Path, PathBuf};
use std::time::Duration;

use writeflush::frames::now;
use writeflush::frames::segments::{Item, Options, Reader};
use writeflush::segments::{self, Event};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    let pattern = folder.join("messages-{seq:06}.frames");
    let what = arguments.next().unwrap_or_else(|| "record".into());
    let seconds: Option<u64> = arguments.next().map(|text| text.parse()).transpose()?;
    match &what[..] {
        "record" => record(&pattern, seconds.unwrap_or(u64::MAX)),
        "read" => read(&pattern, seconds),
        #[cfg(target_os = "linux")]
        "follow" => follow(&pattern),
        _ => Err("say record, read or follow behind the folder".into()),
    }
}

fn record(pattern: &Path, seconds: u64) -> Result<()> {
    let below = writeflush::Options::new().followed(true).checksum(true);
    let files = segments::Options::new(pattern)
        .below(below)
        .every(Duration::from_millis(500))
        .keep_count(20)
        .recycle(true) // the oldest becomes the next one, unless somebody reads it
        .on_event(|event| match event {
            Event::Closed(closed) => {
                let (name, frames) = (closed.segment.path.display(), closed.frames);
                let frames = frames.map_or(0, |frames| frames.frames);
                let sum = closed.summary.checksum.unwrap_or_default();
                println!("{name}: {frames} messages, CRC32C {sum:08x}");
            }
            Event::Removed(segment) => println!("{}: removed", segment.path.display()),
            Event::NotRemoved(error) | Event::NotReady(error) => eprintln!("{error}"),
            _ => {}
        });
    let (mut writer, found) = Options::from(files).resume()?;
    for (segment, recovered) in &found.recovered {
        let path = segment.path.display();
        println!("{path}: {} messages recovered, {} bytes cut", recovered.frames, recovered.cut);
    }
    println!("goes on with message {}", found.next_sequence);
    for number in 0..seconds.saturating_mul(100) {
        let message = format!("message {number} of process {}", std::process::id());
        writer.write(now(), message.as_bytes())?;
        if number % 10 == 0 {
            writer.flush()?; // from now on these survive a power cut
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let summary = writer.close()?;
    println!("{} bytes durable", summary.positions.durable);
    Ok(())
}

fn read(pattern: &Path, seconds: Option<u64>) -> Result<()> {
    let mut reader = Reader::open(pattern)?;
    if let Some(seconds) = seconds {
        reader.seek_time(now().saturating_sub(seconds.saturating_mul(1_000_000_000)))?;
    }
    for item in reader.by_ref() {
        print(item?);
    }
    println!("ends {:?}", reader.end());
    Ok(())
}

#[cfg(target_os = "linux")]
fn follow(pattern: &Path) -> Result<()> {
    use writeflush::follow::Watermark;
    let mut follower = writeflush::frames::segments::Follower::open(pattern, Watermark::Durable)?;
    while let Some(item) = follower.read()? {
        print(item);
    }
    println!("closed");
    Ok(())
}

fn print(item: Item) {
    match item {
        Item::Segment(begins) => println!("-- {}", begins.segment.path.display()),
        Item::Frame(frame) => {
            println!("{:6} {}", frame.sequence, String::from_utf8_lossy(&frame.payload));
        }
        Item::Hole(hole) => println!("   damaged from {} to {}", hole.from, hole.to),
        Item::Gap(gap) => println!("   {} messages are missing", gap.messages),
    }
}
