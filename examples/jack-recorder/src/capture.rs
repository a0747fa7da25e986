//! What JACK calls: the deadline thread. Nothing here waits, locks, allocates or enters the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jack::{AudioIn, Client, Control, Port, ProcessHandler, ProcessScope};
use writeflush::Writer;

use crate::wav::SAMPLE;

/// Hands the ports' samples, interleaved, to one writer.
pub struct Capture {
    ports: Vec<Port<AudioIn>>,
    writer: Writer,
}

impl Capture {
    pub fn new(ports: Vec<Port<AudioIn>>, writer: Writer) -> Self {
        Self { ports, writer }
    }

    /// The writer, once JACK no longer calls.
    pub fn into_writer(self) -> Writer {
        self.writer
    }
}

impl ProcessHandler for Capture {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let frame = self.ports.len() * SAMPLE as usize;
        let bytes = scope.n_frames() as usize * frame;
        match self.writer.grant(bytes) {
            Ok(mut grant) => {
                for (index, port) in self.ports.iter().enumerate() {
                    let places = grant[index * SAMPLE as usize..].chunks_mut(frame);
                    for (place, sample) in places.zip(port.as_slice(scope)) {
                        place[..SAMPLE as usize].copy_from_slice(&sample.to_le_bytes());
                    }
                }
                grant.commit(bytes);
            }
            // No room, or a failed disk: this period is lost, counted, and filled with silence.
            Err(_) => self.writer.lose(bytes),
        }
        Control::Continue
    }
}

/// What JACK says about itself.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<AtomicU64>);

impl Notices {
    pub fn xruns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl jack::NotificationHandler for Notices {
    fn xrun(&mut self, _: &Client) -> Control {
        self.0.fetch_add(1, Ordering::Relaxed);
        Control::Continue
    }
}
