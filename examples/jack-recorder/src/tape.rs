//! What the callback does with the samples: the deadline thread's part, without JACK. Nothing here
//! waits, locks, allocates or enters the kernel.

use writeflush::Writer;

use crate::wav::{Format, SAMPLE};

/// The longest grant that is asked for: a longer period is taken in pieces, so that JACK may change
/// the period to what it likes.
const GRANT: usize = 64 << 10;

/// Interleaves samples into a writer, and keeps the time: what is missing becomes silence.
#[derive(Debug)]
pub struct Tape {
    writer: Writer,
    /// Bytes of a sample of every channel.
    frame: usize,
    /// When the next frame is due, by JACK's clock.
    due: Option<u32>,
}

impl Tape {
    /// The grant limit that the writer has to be opened with.
    pub fn grant_limit(format: Format) -> usize {
        GRANT.max(format.frame() as usize)
    }

    /// A tape for samples of this format, to a writer that stands behind its header.
    pub fn new(writer: Writer, format: Format) -> Self {
        Self { writer, frame: format.frame() as usize, due: None }
    }

    /// The writer, at the end.
    pub fn into_writer(self) -> Writer {
        self.writer
    }

    /// Takes a period that began at `time`: `frames` samples of each channel. Returns the frames
    /// before it that were never offered (an xrun of JACK's), for which there will be silence.
    ///
    /// Where there is no room, or the disk has failed, samples are lost, counted, and silence takes
    /// their place.
    pub fn take<'a>(
        &mut self,
        time: u32,
        frames: usize,
        channel: impl Fn(usize) -> &'a [f32],
    ) -> u32 {
        let missed = self.due.map_or(0, |due| missed(due, time));
        if missed > 0 {
            self.writer.lose(missed as usize * self.frame);
        }
        let piece = GRANT.max(self.frame) / self.frame;
        for from in (0..frames).step_by(piece) {
            let to = frames.min(from + piece);
            let bytes = (to - from) * self.frame;
            match self.writer.grant(bytes) {
                Ok(mut grant) => {
                    for index in 0..self.frame / SAMPLE as usize {
                        let places = grant[index * SAMPLE as usize..].chunks_mut(self.frame);
                        for (place, sample) in places.zip(&channel(index)[from..to]) {
                            place[..SAMPLE as usize].copy_from_slice(&sample.to_le_bytes());
                        }
                    }
                    grant.commit(bytes);
                }
                Err(_) => self.writer.lose(bytes),
            }
        }
        self.due = Some(time.wrapping_add(frames as u32));
        missed
    }
}

/// Frames between when a period was due and when it came. A clock that was set back is no loss.
fn missed(due: u32, time: u32) -> u32 {
    // It goes round every day or so.
    u32::try_from(time.wrapping_sub(due) as i32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_round_and_may_be_set_back() {
        assert_eq!(missed(1000, 1000), 0);
        assert_eq!(missed(1000, 1064), 64);
        assert_eq!(missed(u32::MAX - 63, 0), 64);
        assert_eq!(missed(u32::MAX - 63, 128), 192);
        assert_eq!(missed(1000, 900), 0);
    }
}
