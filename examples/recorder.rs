//! A recorder in thirty lines: a capture thread that must never wait, and a main thread that
//! makes everything durable every 100 ms.
//!
//! `cargo run --example recorder -- take.raw`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use writeflush::{CloseError, Drive, OnFull, Options, Summary};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "take.raw".into());
    let mut writer = Options::new()
        .buffers(8) // 8 MiB: at 192 kB/s more than 40 s of stalled disk
        .drive(Drive::Poll) // a push makes no system call
        .on_full(OnFull::Fill(0)) // what does not fit becomes silence, and is counted
        .create(&path)?;
    let control = writer.control().clone();

    let stop = AtomicBool::new(false);
    let result: Result<Summary, CloseError> = std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1)); // here: your device's callback
                let _ = writer.write(&[0u8; 192]); // an error is sticky: close reports it
            }
            writer.close()
        });
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            match control.flush() {
                Ok(durable) => println!("{durable} bytes survive a power cut"),
                Err(_) => break,
            }
        }
        stop.store(true, Ordering::Relaxed);
        capture.join().expect("the capture thread does not panic")
    });
    let summary = result?;
    println!("{} bytes, {} lost", summary.positions.durable, summary.stats.overrun_bytes);
    Ok(())
}
