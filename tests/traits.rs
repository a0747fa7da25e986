//! The traits of the standard library that a program may count on.

mod common;

use std::io::{IoSlice, Write};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};

use common::{directory, each_config};
use writeflush::{Control, Error, OnFull, Options, SharedWriter, Ticket, Writer};

#[test]
fn every_face_is_what_a_program_needs_it_to_be() {
    fn everything<T: Send + Sync + UnwindSafe + RefUnwindSafe + std::fmt::Debug + 'static>() {}
    everything::<Control>();
    everything::<SharedWriter>();
    everything::<Ticket>();
    everything::<Options>();
    fn of_one_thread<T: Send + UnwindSafe + RefUnwindSafe + std::fmt::Debug + 'static>() {}
    of_one_thread::<Writer>();
    fn shared<T: Write + Clone>() {}
    shared::<&SharedWriter>();
}

/// Programs print what they hold.
#[test]
fn the_debug_form_of_a_writer_is_a_line() {
    each_config(|config, at| {
        let mut writer = config.create(&at.join("take"));
        writer.write_flush(&[7; 5000]).unwrap();
        let said = format!("{writer:?}");
        assert!(said.len() < 1000 && !said.contains('\n'), "{config}: {said}");
        assert!(said.contains("durable: 5000"), "{config}: {said}");
    });
}

/// A panic of the program in the middle of its work.
#[test]
fn a_writer_goes_on_after_a_panic_of_the_program() {
    each_config(|config, at| {
        let path = at.join("take");
        let mut writer = config.create(&path);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            writer.write(b"before, ").unwrap();
            std::panic::resume_unwind(Box::new("a defect"));
        }));
        assert!(panic.is_err());
        writer.write_flush(b"after").unwrap();
        writer.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before, after", "{config}");
    });
}

#[test]
fn lines_of_many_threads_are_whole() {
    each_config(|config, at| {
        let path = at.join("log");
        let writer = config.create(&path).into_shared();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut writer = &writer;
                scope.spawn(move || {
                    for n in 0..500 {
                        let (head, tail) = (format!("thread {thread}"), format!(" line {n}\n"));
                        let line = [head.as_bytes(), tail.as_bytes()];
                        match n % 2 {
                            0 => writer.write_all(&line.concat()).unwrap(),
                            _ => {
                                let taken = writer.write_vectored(&line.map(IoSlice::new)).unwrap();
                                assert_eq!(taken, head.len() + tail.len());
                            }
                        }
                    }
                    Write::flush(&mut writer).unwrap(); // by name it is the durable one
                    let positions = writer.positions();
                    assert!(positions.written >= 500 * 16, "{positions:?}");
                });
            }
        });
        writer.close().unwrap();
        let log = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (0..4)
            .flat_map(|thread| (0..500).map(move |n| format!("thread {thread} line {n}")))
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{config}");
    });
}

/// Whoever only sees `std::io::Write` has to hear of it.
#[test]
fn a_loss_by_policy_is_an_error_of_the_trait() {
    let folder = directory();
    let options = Options::new().buffer_size(4096).buffers(2).on_full(OnFull::Drop);
    let shared = options.create(folder.path().join("take")).unwrap().into_shared();
    let mut writer = &shared;
    let lost = (0..100_000).find_map(|_| writer.write_all(&[7; 1000]).err()).expect("a loss");
    let lost = lost.into_inner().unwrap().downcast::<Error>().unwrap();
    assert!(matches!(*lost, Error::Lost { bytes: 1000 }), "{lost}");
    assert!(writer.stats().overrun_bytes >= 1000);
}
