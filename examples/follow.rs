//! Reads a recording while another process writes it, and only what survives a power cut there.
//!
//! `cargo run --example follow -- --record take.log` records a line every tenth of a second; beside
//! it, in another terminal, `cargo run --example follow -- take.log` shows each line once it is
//! durable. Kill the recorder, and the follower says so.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use writeflush::Options;
use writeflush::follow::{Follower, Watermark};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let records = words.next_if(|word| word == "--record").is_some();
    let path = words.next().unwrap_or_else(|| "take.log".into());
    if records { record(&path) } else { follow(&path) }
}

fn record(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut writer = Options::new().followed(true).create(path)?;
    for number in 0..600 {
        writer.write(format!("line {number}\n").as_bytes())?;
        if number % 10 == 9 {
            println!("{} bytes are durable", writer.flush()?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    writer.close()?;
    Ok(())
}

fn follow(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let follower = Follower::open(path, Watermark::Durable)?;
    for line in BufReader::new(follower).lines() {
        println!("{}", line?); // an error says how the recorder has ended, unless it was closed
    }
    println!("closed");
    Ok(())
}
