//! What a killed recorder has left, made whole: a WAV or RF64 file by its header, any other file by
//! its lines. What is damaged is kept beside it.
//!
//! `cargo run --example recover -- take.wav`

use std::io::{self, BufRead, BufReader};

use writeflush::recover::{self, Scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a file to recover")?;
    let found = match path.ends_with(".wav") {
        true => writeflush::recover(&path, recover::wave)?,
        false => writeflush::recover(&path, whole_lines)?,
    };
    println!("{} bytes stay, {} were cut, {} are missing", found.kept, found.cut, found.missing);
    if found.mended {
        println!("the header describes them now");
    }
    if let Some(torn) = found.torn {
        println!("the damaged end, {} bytes, is in {}", torn.bytes, torn.path.display());
    }
    Ok(())
}

/// Where the last whole line ends.
fn whole_lines(scan: &mut Scan<'_>) -> io::Result<u64> {
    let (mut lines, mut line, mut end) = (BufReader::new(scan), Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        end += line.len() as u64;
        line.clear();
    }
    Ok(end)
}
