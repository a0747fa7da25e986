//! A writer that moves between threads, and threads that end while its operations are in flight.
//!
//! io_uring cancels what an ending thread has submitted and nobody has started yet; where the
//! caller drives, that must cost nothing but another submission.

mod common;

use common::{Config, configs, watched};
use writeflush::{Drive, FenceForm, Options, Writer};

/// Pushes `count` records that say where they are.
fn push(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let at = writer.positions().accepted;
        let record: Vec<u8> = (at..at + 3000).map(|position| (position % 251) as u8).collect();
        assert_eq!(writer.write(&record).unwrap().position(), Some(at));
    }
}

#[test]
fn a_thread_that_ends_takes_no_write_with_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("moved");
    let caller = |config: &Config| config.drive == Drive::Caller;
    for config in configs().into_iter().filter(caller) {
        for form in [FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
            for _ in 0..3 {
                let (options, path) = (config.options().fence_form(form), path.clone());
                let label = format!("{config} {form:?}");
                watched(&label.clone(), move || relay(&options, &path, &label));
            }
        }
    }
}

/// Ten threads one after the other push, ask for a fence, and are gone.
fn relay(options: &Options, path: &std::path::Path, configuration: &str) {
    let options = options.clone().buffer_size(64 << 10).buffers(16);
    let mut writer = options.create(path).unwrap();
    for _ in 0..10 {
        let thread = std::thread::spawn(move || {
            push(&mut writer, 100);
            drop(writer.fence());
            writer
        });
        writer = thread.join().unwrap();
    }
    let end = 10 * 100 * 3000;
    assert_eq!(writer.flush().unwrap(), end, "{configuration}");
    writer.close().unwrap();
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64, end, "{configuration}");
    let wrong = bytes.iter().enumerate().find(|&(at, &byte)| byte != (at % 251) as u8);
    assert_eq!(wrong, None, "{configuration}");
}
