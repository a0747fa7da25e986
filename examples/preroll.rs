//! Recordings that begin two seconds before somebody has asked for them.
//!
//! `cargo run --example preroll -- FOLDER`: Enter begins a recording in the past, Enter again ends it, the
//! end of the input (Ctrl-D) ends the program.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use writeflush::preroll::{Options, PER_RECORD};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".into()));
    let block = [0u8; 4 * 480]; // 10 ms of stereo, 16 bits, 48 kHz
    let keep = 2 * 100 * (block.len() + PER_RECORD);
    let mut preroll = Options::new(keep).start(move |begins| {
        let since = begins.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = folder.join(format!("event-{since}-{}.raw", begins.number));
        println!("{}, {} bytes of it before the trigger", path.display(), begins.bytes);
        writeflush::Options::new().fence_every(Duration::from_millis(100)).create_new(path)
    })?;
    let control = preroll.control().clone(); // for the thread that sees the event

    let stop = AtomicBool::new(false);
    let summary = std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10)); // here: your device's callback
                let _ = preroll.write(&block); // an error is sticky: close reports it
            }
            preroll.close()
        });
        println!("Enter begins a recording, and ends it");
        for line in std::io::stdin().lines() {
            let answer = line.map_err(Into::into).and_then(|_| begin_or_end(&control));
            if let Err(error) = answer {
                eprintln!("{error}");
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        capture.join().expect("the capture thread does not panic")
    })?;
    println!("{:?}", summary.stats);
    Ok(())
}

fn begin_or_end(control: &writeflush::preroll::Control) -> Result<(), Box<dyn std::error::Error>> {
    if control.trigger()? {
        return Ok(());
    }
    control.stop()?; // one went on
    let ended = control.wait_for_the_end(Duration::from_secs(10))?;
    let durable = ended.and_then(|ended| ended.last).map(|file| file.positions.durable);
    let age = SystemTime::now().duration_since(control.kept().since).unwrap_or_default();
    println!("{durable:?} bytes are durable; the last {age:?} are kept again");
    Ok(())
}
