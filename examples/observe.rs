//! What an operator sees: a recorder with a page for Prometheus at <http://localhost:9184/metrics>.
//!
//! `cargo run --example observe -- take.raw` records until it is interrupted, or so many seconds.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use writeflush::observe::Sample;
use writeflush::{Control, OnFull, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "take.raw".into());
    let seconds = std::env::args().nth(2).map_or(Ok(u64::MAX), |text| text.parse())?;
    let port = std::env::args().nth(3).map_or(Ok(9184), |text| text.parse())?;
    let options =
        Options::new().on_full(OnFull::Drop).fence_every(Some(Duration::from_millis(100)));
    let mut writer = options.create(&path)?;

    let listener = TcpListener::bind(("localhost", port))?;
    println!("http://{}/metrics", listener.local_addr()?);
    let control = writer.control().clone();
    std::thread::spawn(move || serve(&listener, &control, &path));

    let samples = [0u8; 4 * 480]; // 10 ms of stereo, 16 bits, 48 kHz
    for _ in 0..seconds.saturating_mul(100) {
        writer.write(&samples)?; // never waits, whoever looks
        std::thread::sleep(Duration::from_millis(10));
    }
    writer.close()?;
    Ok(())
}

/// Whoever asks gets the figures of that moment. A server of HTTP that one has already is a better place.
fn serve(listener: &TcpListener, control: &Control, path: &str) {
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let Ok(sample) = Sample::of(control).label("recording", path) else { return };
        let (_, page) = (stream.read(&mut [0; 4096]), sample.prometheus());
        let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
        let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len());
    }
}
