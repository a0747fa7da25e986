//! Messages that outlive a crash: goes on where the last run stopped, and shows what is in the file.
//!
//! `cargo run --example frames -- take.frames` writes ten messages and closes; with `--crash` behind
//! it, it ends in the midst of them, and the next run recovers what is there.

use writeflush::frames::{Item, Options, Reader, now};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "take.frames".into());
    let crashes = std::env::args().nth(2).is_some_and(|word| word == "--crash");

    let (mut writer, found) = Options::default().resume(&path)?;
    println!("{} messages were there, {} bytes were cut off", found.frames, found.cut);
    if let Some(torn) = found.torn {
        println!("the damaged end, {} bytes, is in {}", torn.bytes, torn.path.display());
    }
    for number in 0..10 {
        let message = format!("message {number} of process {}", std::process::id());
        writer.write(now(), message.as_bytes())?;
    }
    writer.flush()?; // from now on these ten survive a power cut
    if crashes {
        std::process::abort();
    }
    writer.close()?;

    let mut reader = Reader::open(&path)?;
    while let Some(item) = reader.read()? {
        match item {
            Item::Frame(frame) => {
                let text = String::from_utf8_lossy(frame.payload);
                println!("{:4} ({} missing before it): {text}", frame.sequence, frame.missing);
            }
            Item::Hole(hole) => println!("damaged from {} to {}", hole.from, hole.to),
        }
    }
    println!("ends {:?}", reader.end());
    Ok(())
}
