//! A thread may end at any moment after a call has returned: the kernel cancels what that thread
//! has under way in io_uring, yet no byte may be lost and nobody may hear of it.

mod common;

use common::{assert_file, bytes, each_config};
use writeflush::FenceForm;

/// The kernel is busy with the bytes of one thread, so those of the other wait in a queue when it
/// ends.
#[test]
fn a_producer_may_end_while_its_bytes_are_under_way() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let options = config.options().buffer_size(4 << 20).buffers(4);
        let writer = options.create(&path).unwrap().into_shared();
        let data = bytes(3, 12 << 20);
        let (mine, others) = data.split_at(8 << 20);
        for _ in 0..2 {
            writer.try_write(mine).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| writer.try_write(others).unwrap());
            });
            writer.flush().unwrap_or_else(|error| panic!("{error}"));
        }
        writer.close().unwrap_or_else(|error| panic!("{error}"));
        assert_file(&path, &data.repeat(2), &config);
    });
}

#[test]
fn whoever_asks_for_a_fence_may_end_before_it_is_through() {
    for form in [FenceForm::Auto, FenceForm::Link, FenceForm::Dsync, FenceForm::Flush] {
        each_config(move |config, directory| {
            let path = directory.join("take");
            let writer = config.options().fence_form(form).create(&path).unwrap().into_shared();
            let data = bytes(4, 700);
            for turn in 0..60 {
                let asker = writer.clone();
                let push = data.clone();
                let ticket = std::thread::spawn(move || {
                    asker.try_write(&push).unwrap();
                    // Where the caller drives, a look gets it under way.
                    let ticket = asker.fence();
                    let _ = ticket.is_durable();
                    ticket
                });
                let ticket = ticket.join().unwrap();
                let position = ticket.wait().unwrap_or_else(|error| panic!("{form:?}: {error}"));
                assert_eq!(position, 700 * (turn + 1));
            }
            writer.close().unwrap_or_else(|error| panic!("{form:?}: {error}"));
            assert_file(&path, &data.repeat(60), &config);
        });
    }
}

#[test]
fn a_patch_outlives_its_thread() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut model = bytes(5, 100_000);
        assert_eq!(writer.write_flush(&model).unwrap(), 100_000);
        for turn in 0..40usize {
            let (at, data) = (turn * 2345, bytes(turn as u64, 3000));
            let control = writer.control().clone();
            let patch = data.clone();
            let ticket = std::thread::spawn(move || {
                control.patch(at as u64, &patch).unwrap();
                let ticket = control.fence();
                let _ = ticket.is_durable();
                ticket
            });
            model[at..at + 3000].copy_from_slice(&data);
            let ticket = ticket.join().unwrap();
            let through = ticket.wait();
            assert_eq!(through.unwrap_or_else(|error| panic!("{error}")), 100_000);
        }
        writer.close().unwrap_or_else(|error| panic!("{error}"));
        assert_file(&path, &model, &config);
    });
}
