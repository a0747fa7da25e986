//! A WAV recorder (hound over writeflush) that a gate can compare with an older build of itself:
//!
//! ```sh
//! cargo build --release && cp target/release/gated-wav /tmp/old      # before your change
//! cargo build --release                                             # after it
//! cargo perf gate --base-program /tmp/old --candidate-program target/release/gated-wav /data
//! ```

use std::path::Path;
use std::process::ExitCode;

use hound::{SampleFormat, WavSpec, WavWriter};
use writeflush::{Options, Writer};
use writeflush_operation::{Failure, Kind, Operation, serve};

const SPEC: WavSpec = WavSpec {
    channels: 2,
    sample_rate: 48_000,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};
/// Of a block that a sound card hands over: 10 ms.
const FRAMES: usize = 480;
const BLOCK: u64 = FRAMES as u64 * 4;
/// Blocks until the recording begins anew: 10 minutes.
const BLOCKS: u64 = 60_000;

/// A recording.
struct Recorder {
    writer: WavWriter<Writer>,
    left: u64,
    phase: i16,
}

impl Recorder {
    fn block(&mut self) -> Result<(), Failure> {
        for _ in 0..2 * FRAMES {
            self.phase = self.phase.wrapping_add(77);
            self.writer.write_sample(self.phase)?;
        }
        Ok(())
    }

    /// For how many of so many blocks there is room in the recording.
    fn room(&mut self, times: u64) -> Result<u64, Failure> {
        let now = self.left.min(times);
        self.left -= now;
        if now > 0 { Ok(now) } else { Err("the recording is full: ask for fewer blocks".into()) }
    }
}

fn recorder(folder: &Path) -> Result<Recorder, Failure> {
    let file = Options::new().create(folder.join("take.wav"))?;
    Ok(Recorder { writer: WavWriter::new(file, SPEC)?, left: BLOCKS, phase: 0 })
}

/// Ten milliseconds into the buffers.
struct Block(Recorder);

impl Operation for Block {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.0.writer.flush()?; // room for what follows, and a header that is true
        self.0.room(times.min(64))
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.0.block()
    }
}

/// Ten milliseconds, and a header that tells of them: both survive a power cut.
struct Durable(Recorder);

impl Operation for Durable {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        self.0.room(times)
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.0.block()?;
        Ok(self.0.writer.flush()?)
    }
}

fn main() -> ExitCode {
    serve(&[
        Kind::new("block", |folder| Ok(Box::new(Block(recorder(folder)?)))).bytes(BLOCK),
        Kind::new("durable", |folder| Ok(Box::new(Durable(recorder(folder)?))))
            .fences(1)
            .bytes(BLOCK),
    ])
}
