//! Records the default input device to a WAV file, by cpal. The callback never waits, locks, allocates
//! or enters the kernel; ten times a second the header on disk describes what is durable.
//!
//! `cargo run --release --manifest-path examples/cpal-recorder/Cargo.toml -- take.wav 10` records ten
//! seconds. On Linux it needs Debian's `libasound2-dev` to build.

use std::error::Error;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{Data, SampleFormat, SupportedStreamConfig};
use writeflush::{Drive, OnFull, Options, Summary};

const HEADER: usize = 44;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or("take.wav".into());
    let seconds = std::env::args().nth(2).map_or(Ok(10), |text| text.parse())?;
    let summary = record(&path, Duration::from_secs(seconds))?;
    let lost = summary.stats.overrun_bytes;
    println!("{path}: {} bytes durable, {lost} lost", summary.positions.durable);
    Ok(())
}

fn record(path: &str, time: Duration) -> Result<Summary, Box<dyn Error>> {
    let device = cpal::default_host().default_input_device().ok_or("there is no input device")?;
    let config = device.default_input_config()?;
    let header = wav(&config)?;
    let writer = Options::new()
        .buffers(8) // 8 MiB: at 384 kB/s more than 20 s of stalled disk
        .drive(Drive::Poll) // a push makes no system call
        .on_full(OnFull::Fill(0)) // what does not fit becomes silence, and is counted
        .create_new(path)?
        .into_shared();
    writer.write_flush(&header(0))?;

    let callback = writer.clone();
    let stream = device.build_input_stream_raw(
        config.config(),
        config.sample_format(),
        move |samples: &Data, _: &_| {
            let _ = callback.write(samples.bytes()); // an error is sticky: the close reports it
        },
        |error| eprintln!("the device: {error}"),
        None,
    )?;
    stream.play()?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        writer.checkpoint(0, &header)?;
    }
    drop(stream); // no callback comes any more
    writer.flush()?; // silence that is still owed
    writer.checkpoint(0, &header)?;
    Ok(writer.close()?)
}

/// What makes the header of a file that is durable up to a position.
fn wav(config: &SupportedStreamConfig) -> Result<impl Fn(u64) -> [u8; HEADER], Box<dyn Error>> {
    let (tag, bytes) = match config.sample_format() {
        SampleFormat::I16 => (1u16, 2u16),
        SampleFormat::I32 => (1, 4),
        SampleFormat::F32 => (3, 4),
        other => return Err(format!("samples are {other} here, and no WAV file has them").into()),
    };
    let (channels, rate) = (config.channels(), config.sample_rate());
    let frame = bytes * channels;
    Ok(move |durable: u64| {
        let data = durable.saturating_sub(HEADER as u64) / u64::from(frame) * u64::from(frame);
        let data = u32::try_from(data).unwrap_or(u32::MAX); // beyond 4 GiB: jack-recorder has RF64
        let mut header = [0; HEADER];
        let mut at = 0;
        let mut put = |piece: &[u8]| {
            header[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        put(b"RIFF");
        put(&data.saturating_add(HEADER as u32 - 8).to_le_bytes());
        put(b"WAVEfmt \x10\0\0\0");
        put(&tag.to_le_bytes());
        put(&channels.to_le_bytes());
        put(&rate.to_le_bytes());
        put(&(rate * u32::from(frame)).to_le_bytes());
        put(&frame.to_le_bytes());
        put(&(8 * bytes).to_le_bytes());
        put(b"data");
        put(&data.to_le_bytes());
        header
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that ALSA pretends: it plays what is in a file, as fast as it is heard.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_device_gives_is_in_the_file_and_in_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let tone: Vec<u8> = (1..=48_000u16).flat_map(u16::to_le_bytes).collect();
        std::fs::write(at("tone"), &tone).unwrap();
        let device = format!(
            "pcm.silence {{ type null }}\npcm.!default {{ type file slave.pcm \"silence\" \
             file \"/dev/null\" infile \"{}\" format \"raw\" }}\n",
            at("tone")
        );
        std::fs::write(at("asound.conf"), device).unwrap();
        // SAFETY: nobody else reads the environment, the only test in this process is this one.
        unsafe { std::env::set_var("ALSA_CONFIG_PATH", at("asound.conf")) };
        let summary = record(&at("take.wav"), Duration::from_millis(50)).unwrap();
        let file = std::fs::read(at("take.wav")).unwrap();
        assert_eq!(file.len() as u64, summary.positions.durable);
        let data = u32::from_le_bytes(file[40..44].try_into().unwrap()) as usize;
        assert!(data > 0 && data == file.len() - HEADER, "{data} of {}", file.len());
        assert_eq!(file[HEADER..HEADER + 1000], tone[..1000]);
    }
}
