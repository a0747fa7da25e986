//! What a writer takes beside its buffers, whatever is written.

use writeflush::{Drive, Options};

use super::{Row, Scratch, row};

/// Resident anonymous memory of this process in KiB (proc(5), `RssAnon`).
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a RssAnon line");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("memory");
    let record = vec![9u8; 100_000];
    let before = resident();
    let mut writer = Options::new().drive(Drive::Thread).create(&path).expect("the writer opens");
    let mut most = 0;
    for index in 0..10_000 {
        let _ = writer.write(&record).expect("a write");
        if index % 100 == 0 {
            drop(writer.fence());
            writer.patch(index * 1000, &record[..1000]).expect("a patch");
            most = most.max(resident() - before);
        }
    }
    let buffers = 2 * 1024;
    writer.close().expect("a close");
    let figure = format!("{} KiB", most - buffers);
    vec![row(
        "memory",
        "memory beside 2 × 1 MiB of buffers, 1 GB written, 100 patches",
        figure,
        "≤ 1024 KiB",
    )]
}
