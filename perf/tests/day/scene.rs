//! What is recorded, how, and what happens meanwhile: drawn from a seed.

use std::time::Duration;

use fastrand::Rng;

#[derive(Clone, Debug)]
pub struct Scene {
    pub seed: u64,
    pub length: Duration,
    /// Bytes in a segment; `None` is one file that is resumed.
    pub split: Option<u64>,
    pub shape: Shape,
    /// Bytes a second.
    pub rate: u64,
    pub on_full: &'static str,
    pub on_disk_full: &'static str,
    pub buffers: u64,
    pub buffer_size: u64,
    pub fence: &'static str,
    pub ways: &'static [&'static str],
    /// Words go to a terminal, which may stop.
    pub has_terminal: bool,
    /// The input is a name, not standard input.
    pub has_name: bool,
    /// A job beside takes closed segments away.
    pub has_cleaner: bool,
    /// The last recorder meets the end of its input, not a signal.
    pub ends_with_input: bool,
    pub deeds: Vec<(Duration, Deed)>,
}

/// The form of the recording.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Raw { frame: u64 },
    Wav { channels: u64, bits: u64 },
}

impl Shape {
    pub fn frame(self) -> u64 {
        match self {
            Self::Raw { frame } => frame,
            Self::Wav { channels, bits } => channels * bits / 8,
        }
    }
}

/// What happens to a recorder, or to its disk and terminal for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Kill,
    Terminate,
    HangUp,
    /// SIGSTOP and SIGCONT.
    Pause(Duration),
    /// SIGSTOP until its watchdog kills it.
    Stop,
    /// The disk takes nothing.
    Stall(Duration),
    /// The disk has so many bytes left.
    Fill(u64, Duration),
    /// Ctrl-S and Ctrl-Q.
    Mute(Duration),
}

/// Long enough for a busy machine, so that only who was stopped is killed.
pub const WATCHDOG: Duration = Duration::from_secs(6);

impl Scene {
    pub fn draw(seed: u64, length: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        let one = |rng: &mut Rng, all: &[&'static str]| all[rng.usize(..all.len())];
        let split = seed.is_multiple_of(2).then(|| rng.u64(200_000..2_000_000));
        // No frame divides a block.
        let shape = match rng.u64(0..5) {
            0 => Shape::Wav { channels: 5, bits: 24 },
            1 => Shape::Wav { channels: 4, bits: 24 },
            2 => Shape::Wav { channels: 7, bits: 16 },
            3 => Shape::Raw { frame: 23 },
            _ => Shape::Raw { frame: 13 },
        };
        let policies =
            if split.is_some() { &["wait", "delete", "fail"][..] } else { &["wait", "fail"] };
        let on_disk_full = one(&mut rng, policies);
        let small = rng.bool();
        Self {
            seed,
            length,
            split,
            shape,
            rate: rng.u64(192_000..2_500_000),
            on_full: one(&mut rng, &["block", "drop"]),
            on_disk_full,
            buffers: rng.u64(2..=6),
            buffer_size: if small { 64 << 10 } else { 1 << 20 },
            fence: one(&mut rng, &["100ms", "10ms", "0"]),
            ways: [&[][..], &["--backend", "sync"], &["--direct", "off"]][rng.usize(..3)],
            has_terminal: rng.bool(),
            has_name: rng.bool(),
            has_cleaner: split.is_some() && on_disk_full != "delete",
            ends_with_input: rng.bool(),
            deeds: deeds(&mut rng, length),
        }
    }

    /// The arguments of `record`, but for its input.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["record".into(), "--json-lines".into()];
        let mut add = |name: &str, value: String| options.extend([name.to_string(), value]);
        add("--on-full", self.on_full.into());
        add("--on-disk-full", self.on_disk_full.into());
        add("--buffers", self.buffers.to_string());
        add("--buffer-size", self.buffer_size.to_string());
        add("--fence-every", self.fence.into());
        match self.shape {
            Shape::Raw { frame } => add("--frame", frame.to_string()),
            Shape::Wav { channels, bits } => {
                add("--channels", channels.to_string());
                add("--bits", bits.to_string());
            }
        }
        match self.split {
            Some(bytes) => {
                add("--split", bytes.to_string());
                add("--min-free", "8MB".into());
            }
            None => options.push("--resume".into()),
        }
        options.extend(self.ways.iter().map(ToString::to_string));
        options
    }

    pub fn name(&self) -> &'static str {
        match self.shape {
            Shape::Raw { .. } => "take.raw",
            Shape::Wav { .. } => "take.wav",
        }
    }
}

fn deeds(rng: &mut Rng, length: Duration) -> Vec<(Duration, Deed)> {
    let time = |rng: &mut Rng, most: u64| Duration::from_millis(rng.u64(20..most));
    let (mut at, mut deeds) = (Duration::ZERO, Vec::new());
    loop {
        at += time(rng, 900);
        if at >= length {
            return deeds;
        }
        let deed = match rng.u64(0..100) {
            0..30 => Deed::Kill,
            30..38 => Deed::Terminate,
            38..55 => Deed::HangUp,
            55..70 => Deed::Pause(time(rng, 1500)),
            70..71 => Deed::Stop,
            71..80 => Deed::Stall(time(rng, 2500)),
            80..90 => Deed::Fill(rng.u64(0..400_000), time(rng, 2500)),
            _ => Deed::Mute(time(rng, 3000)),
        };
        deeds.push((at, deed));
    }
}
