//! An audio callback that is given away (`'static`) and owns the writer, as cpal, PortAudio and JACK
//! want it. It pushes, and never waits, locks, allocates or enters the kernel; the program keeps a
//! `Control`: for the header, and to close the writer that it does not own.
//!
//! `cargo run --bin callback -- take.raw` records three seconds of a tone from a pretended device.

use std::time::Duration;

use writeflush::{Drive, Error, OnFull, Options, Summary, Writer};

const RATE: usize = 48_000;
const BLOCK: usize = 480;
/// Of two floats.
const FRAME: usize = 8;

/// What a device calls every ten milliseconds; `false` ends the stream.
type Callback = Box<dyn FnMut(&[f32; 2 * BLOCK]) -> bool + Send + 'static>;

/// Buffers for two seconds, zeros for what is lost, and no system call.
fn options() -> Options {
    Options::new()
        .buffer_size(64 << 10)
        .buffers(2 * RATE * FRAME / (64 << 10) + 1)
        .drive(Drive::Poll)
        .on_full(OnFull::Fill(0))
}

fn callback(mut writer: Writer) -> Callback {
    Box::new(move |block| {
        let mut bytes = [0; FRAME * BLOCK];
        for (bytes, sample) in bytes.chunks_exact_mut(4).zip(block) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        writer.write(&bytes).is_ok() // closed, or the disk has failed: the program hears why
    })
}

/// A device that plays a tone until the callback has enough.
fn device(mut callback: Callback, pause: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let step = 440.0 * std::f32::consts::TAU / RATE as f32;
        let mut phase = 0.0f32;
        loop {
            let mut block = [0.0; 2 * BLOCK];
            for frame in block.chunks_exact_mut(2) {
                frame.fill(phase.sin());
                phase = (phase + step) % std::f32::consts::TAU;
            }
            if !callback(&block) {
                return;
            }
            std::thread::sleep(pause);
        }
    })
}

fn record(
    path: &str,
    seconds: f32,
    pause: Duration,
) -> Result<Summary, Box<dyn std::error::Error>> {
    let mut writer = options().create(path)?;
    writer.write(&[0; FRAME])?; // a header: the frames that are durable behind it
    let control = writer.control().clone();
    let device = device(callback(writer), pause);
    let frames = |durable: u64| (durable / FRAME as u64 - 1).to_le_bytes();
    for _ in 0..(seconds * 10.0) as u32 {
        std::thread::sleep(Duration::from_millis(100));
        control.checkpoint(0, frames)?;
    }
    control.checkpoint(0, frames)?;
    let summary = control.close()?; // the callback's next push is refused, and the device ends
    device.join().map_err(|_| "the device panicked")?;
    Ok(summary)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("take.raw".into());
    let summary = record(&path, 3.0, Duration::from_millis(10))?;
    let (bytes, lost) = (summary.positions.durable, summary.stats.overrun_bytes);
    println!("{path}: {bytes} bytes durable, {lost} lost");
    if let Some(lost) = summary.overruns.first() {
        return Err(Box::new(Error::Lost { bytes: lost.bytes as usize }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_that_owns_the_writer_is_closed_from_outside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take");
        let path = path.to_str().unwrap();
        let summary = record(path, 0.3, Duration::from_millis(1)).unwrap();
        let file = std::fs::read(path).unwrap();
        assert_eq!(file.len() as u64, summary.positions.durable);
        let frames = u64::from_le_bytes(file[..FRAME].try_into().unwrap()) as usize;
        assert!(frames >= BLOCK && (frames + 1) * FRAME <= file.len());
        assert_eq!((file.len() - FRAME) % (BLOCK * FRAME), 0, "whole blocks");
    }
}
