//! A writer on a computer with threads of its own, and what is known about its file.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::super::io::Kernel;
use super::super::{Computer, Faults};
use crate::control::Control;
use crate::error::Error;
use crate::options::{Drive, FenceForm, Options};
use crate::overrun::Push;
use crate::sync::{Event, Mutex, ignore_poison, thread};
use crate::writer::SharedWriter;

pub(super) const BUFFER: usize = 4096;
/// What two buffers hold.
pub(super) const RING: usize = 2 * BUFFER;

pub(super) fn path() -> &'static Path {
    Path::new("take")
}

/// A computer and a way to record on it: who turns the driver, who carries out, which fences.
pub(super) fn computer(random: &mut fastrand::Rng, faults: Faults) -> (Computer, Options) {
    let computer = Computer::new(random.u64(..), [1, 512, 4096][random.usize(..3)], faults);
    let kernel = [Kernel::Device, Kernel::Blocking][random.usize(..2)];
    let options = options(random, &computer, kernel);
    (computer, options)
}

pub(super) fn options(random: &mut fastrand::Rng, computer: &Computer, kernel: Kernel) -> Options {
    computer
        .options_with(kernel)
        .drive([Drive::Thread, Drive::Caller][random.usize(..2)])
        .fence_form([FenceForm::Auto, FenceForm::Flush, FenceForm::Link][random.usize(..3)])
        .buffer_size(BUFFER)
        .buffers(2)
        .grant_limit(BUFFER)
}

/// What the producers have put where, and how they have patched it.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<Piece>>>);

struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Written {
    /// Bytes that tell one write from another, and each from its neighbours.
    pub(super) fn bytes(mark: u8, len: usize) -> Vec<u8> {
        (0..len).map(|at| mark.wrapping_mul(31).wrapping_add((at % 251) as u8) | 1).collect()
    }

    /// The answer to a write.
    pub(super) fn note(&self, answer: Result<Push, Error>, bytes: Vec<u8>) -> Result<u64, Error> {
        let at = answer?.position().expect("the policy is to wait");
        self.put(at, bytes);
        Ok(at)
    }

    pub(super) fn put(&self, at: u64, bytes: Vec<u8>) {
        ignore_poison(self.0.lock()).push(Piece { at, bytes });
    }

    /// Each write is contiguous, and together they are the file, to the last byte.
    pub(super) fn check(&self, content: &[u8]) {
        let mut expected = Vec::new();
        for Piece { at, bytes } in &*ignore_poison(self.0.lock()) {
            let (at, end) = (*at as usize, *at as usize + bytes.len());
            expected.resize(expected.len().max(end), 0);
            expected[at..end].copy_from_slice(bytes);
        }
        assert_eq!(content.len(), expected.len(), "the length of the file");
        let differs = content.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the first byte that is not as written");
    }
}

/// A shared stream of this computer, ready for threads.
pub(super) fn share(options: &Options) -> SharedWriter {
    options.create(path()).expect("nothing fails so early").into_shared()
}

/// As a task does it: waits for room.
async fn push(writer: &SharedWriter, bytes: &[u8], by_grant: bool) -> Result<u64, Error> {
    loop {
        let pushed = match by_grant {
            false => writer.try_write(bytes),
            true => writer.grant(bytes.len()).map(|mut grant| {
                grant.copy_from_slice(bytes);
                grant.commit()
            }),
        };
        match pushed {
            Err(Error::Full { .. }) => writer.room(bytes.len()).await?,
            pushed => return pushed,
        }
    }
}

/// Writes so many records of random lengths, in every way there is; the first error ends it.
pub(super) fn produce(
    writer: &SharedWriter,
    written: &Written,
    mark: u8,
    lens: &[usize],
) -> Result<(), Error> {
    for (index, len) in lens.iter().enumerate() {
        let bytes = Written::bytes(mark + index as u8, *len);
        let pushed = match (mark as usize + index) % 4 {
            0 => writer.write_parts(&[&bytes[..len / 3], &bytes[len / 3..]]),
            way @ (1 | 2) if *len <= BUFFER => {
                block_on(push(writer, &bytes, way == 1)).map(Push::Accepted)
            }
            _ => writer.write(&bytes),
        };
        written.note(pushed, bytes)?;
    }
    Ok(())
}

/// `accepted ≥ submitted ≥ written ≥ durable`, and none goes back.
pub(super) fn check_positions(control: &Control, before: &mut [u64; 4]) {
    let now = control.positions();
    let now = [now.accepted, now.submitted, now.written, now.durable];
    assert!(now.is_sorted_by(|a, b| a >= b), "positions out of order: {now:?}");
    assert!(now.iter().zip(&*before).all(|(now, before)| now >= before), "a position went back");
    *before = now;
}

/// What a power cut would leave now begins with the bytes `..durable` of the file.
pub(super) fn prefix_after_a_cut(computer: &Computer, durable: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(durable);
    let mut image = computer.medium().cut(&mut random);
    let mut content = image.remove(path()).expect("its name is certain");
    assert!(content.len() as u64 >= durable, "a durable byte is gone");
    content.truncate(durable as usize);
    content
}

/// The least that runs a future: only a wake-up lets it go on.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Alarm(Event);
    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.announce();
        }
    }
    let alarm = Arc::new(Alarm(Event::default()));
    let waker = Waker::from(alarm.clone());
    let mut future = pin!(future);
    loop {
        let ticket = alarm.0.ticket();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::yield_now(); // it may have woken itself
        alarm.0.sleep(ticket, None);
    }
}
