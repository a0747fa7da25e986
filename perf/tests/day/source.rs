//! A source that never waits: frames with a number each, at a rate, into a pipe. What finds no room
//! is counted, by number.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a pipe takes whole or not at all (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Frame `number`, `len` bytes: the number, and a check of it.
pub fn append_frame(number: u64, len: usize, to: &mut Vec<u8>) {
    let end = to.len() + len;
    to.extend(number.to_le_bytes());
    let mut check = number;
    while to.len() < end {
        // splitmix64
        check = check.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (check ^ (check >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (mixed ^ (mixed >> 31)).to_le_bytes();
        to.extend(&bytes[..bytes.len().min(end - to.len())]);
    }
}

/// The numbers of whole frames.
pub fn read_frames(bytes: &[u8], len: usize) -> Result<Vec<Range<u64>>, String> {
    let (mut runs, mut expected) = (Vec::<Range<u64>>::new(), Vec::new());
    for (index, frame) in bytes.chunks(len).enumerate() {
        if frame.len() < len {
            return Err(format!("the last {} bytes are no frame of {len}", frame.len()));
        }
        let number = u64::from_le_bytes(frame[..8].try_into().unwrap());
        expected.clear();
        append_frame(number, len, &mut expected);
        if frame != expected {
            return Err(format!("what stands at frame {index} is none: {frame:02x?}"));
        }
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    Ok(runs)
}

#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The number of the next frame.
    pub next: u64,
    /// Frames that the pipe had no room for.
    pub refused: Vec<Range<u64>>,
}

pub struct Source {
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Somebody has the other end of the FIFO open.
    pub fn start(fifo: &Path, frame: usize, bytes_per_second: u64) -> Self {
        let pipe = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo);
        let (pipe, told, stop) = (pipe.unwrap(), Arc::default(), Arc::default());
        let (to, until) = (Arc::clone(&told), Arc::clone(&stop));
        let rate = bytes_per_second as f64 / frame as f64;
        let thread = std::thread::spawn(move || run(pipe, frame, rate, &to, &until));
        Self { told, stop, thread: Some(thread) }
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_none()
    }

    /// Closes its end of the pipe.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut pipe: File, frame: usize, rate: f64, told: &Mutex<Told>, stop: &AtomicBool) {
    let (began, mut bytes) = (Instant::now(), Vec::with_capacity(PIPE_BUF));
    let most = (PIPE_BUF / frame) as u64;
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate) as u64;
        loop {
            let mut told = told.lock().unwrap();
            let batch = told.next..due.min(told.next + most);
            if batch.start >= batch.end {
                break;
            }
            bytes.clear();
            batch.clone().for_each(|number| append_frame(number, frame, &mut bytes));
            told.next = batch.end;
            match pipe.write(&bytes) {
                Ok(taken) => assert_eq!(taken, bytes.len(), "a pipe takes all or nothing"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    match told.refused.last_mut() {
                        Some(run) if run.end == batch.start => run.end = batch.end,
                        _ => told.refused.push(batch),
                    }
                }
                Err(error) => panic!("the source: {error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
