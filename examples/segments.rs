//! A recording that never ends: one-second segments, of which the newest five stay.
//!
//! `cargo run --example segments -- FOLDER` records until it is interrupted; the next run goes on with
//! the next number.

use std::time::Duration;

use writeflush::OnFull;
use writeflush::segments::{Event, Floor, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let seconds = std::env::args().nth(2).map_or(Ok(u64::MAX), |text| text.parse())?;
    let below = writeflush::Options::new().on_full(OnFull::Drop);
    let mut writer = Options::new(std::path::Path::new(&folder).join("take-{seq:06}.raw"))
        .below(below)
        .every(Duration::from_secs(1))
        .keep_count(5)
        .min_free(100 << 20, Floor::DeleteOldest)
        .on_event(|event| match event {
            Event::Closed(closed) => {
                println!("{}: {} bytes", closed.segment.path.display(), closed.bytes);
            }
            Event::Removed(segment) => println!("{}: removed", segment.path.display()),
            Event::NotRemoved(error) | Event::NotReady(error) => eprintln!("{error}"),
            _ => {}
        })
        .open()?;
    println!("goes on with number {}", writer.found().first_sequence);

    let samples = [0u8; 4 * 480]; // 10 ms of stereo, 16 bits, 48 kHz
    for number in 0..seconds.saturating_mul(100) {
        writer.write(&samples)?; // never waits, whatever becomes of the segments
        if number % 50 == 0 {
            writer.flush()?; // a capture thread would leave this to another, by `control().clone()`
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let summary = writer.close()?;
    println!("{} bytes in all, {:?}", summary.positions.durable, summary.stats);
    Ok(())
}
