//! Wakers are foreign code: whatever they call, on whatever thread they run, is answered, and they
//! are let go when nobody waits any more.

mod common;

use std::future::Future;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::hold::hold_driver;
use common::{Config, SMALL, assert_file, assert_same, bytes, each_config, each_thread};
use writeflush::{Control, Drive, Error, OnFull, SharedWriter, Ticket};

/// What a task of an executor may do when it is woken.
struct OnWake<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

fn waker(act: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(Mutex::new(Some(act)))))
}

fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<Result<u64, Error>> {
    Pin::new(ticket).poll(&mut Context::from_waker(waker))
}

/// Has `waker` run by the driver: writes, and awaits the fence, until one was not through at once.
/// The ticket is kept until the waker has run.
fn wake(writer: &Control, push: impl Fn(), waker: &Waker) -> Ticket {
    loop {
        push();
        let mut ticket = writer.fence();
        if poll(&mut ticket, waker).is_pending() {
            return ticket;
        }
    }
}

fn shared(config: Config, path: &Path) -> SharedWriter {
    config.create(path).into_shared()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn answers<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
    channel()
}

#[test]
fn a_task_that_has_ended_is_kept_by_nobody() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        let mut tasks: Vec<Weak<Task>> = Vec::new();
        let mut new_task = || {
            let task = Arc::new(Task);
            tasks.push(Arc::downgrade(&task));
            Waker::from(task)
        };
        for serial in 0..20 {
            let _ = writer.write(&bytes(serial, 100)).unwrap();
            let mut dropped = writer.fence();
            let _ = poll(&mut dropped, &new_task()).map(drop);
            let mut clone = dropped.clone();
            drop(dropped);
            // Its task changes, then it is through.
            let _ = poll(&mut clone, &new_task()).map(drop);
            let _ = poll(&mut clone, &new_task()).map(drop);
            writer.flush().unwrap();
            assert!(poll(&mut clone, &new_task()).is_ready());
            // Through before it is polled at all.
            assert!(poll(&mut writer.fence(), &new_task()).is_ready());
        }
        let gone = || tasks.iter().all(|task| task.strong_count() == 0);
        wait_until("the tasks are gone", gone); // the driver may be waking one
        writer.close().unwrap();
    });
}

/// Room: one waker while it is awaited, none when it is there or nobody wants it, and the driver wakes
/// whoever waits.
#[test]
fn whoever_awaits_room_is_woken_and_kept_by_nobody_else() {
    struct Task(Sender<()>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
        }
    }
    each_thread(|config, directory| {
        let path = directory.join("take");
        let writer = shared(config, &path);
        let held = hold_driver(&writer, || drop(writer.try_write(b"x")));
        while writer.try_write(&bytes(1, 1000)).is_ok() {}
        let (tell, told) = answers();
        let task = Arc::new(Task(tell));
        let waker = Waker::from(task.clone());
        let mut context = Context::from_waker(&waker);
        let mut dropped = writer.room(1000);
        let mut room = writer.room(1000);
        assert!(Pin::new(&mut dropped).poll(&mut context).is_pending(), "{config}");
        assert!(Pin::new(&mut room).poll(&mut context).is_pending());
        assert!(Pin::new(&mut room).poll(&mut context).is_pending());
        assert_eq!(Arc::strong_count(&task), 4, "{config}: this one, its waker, and two that wait");
        drop(dropped);
        assert_eq!(Arc::strong_count(&task), 3, "{config}");
        let too_long = Pin::new(&mut writer.room(SMALL + 1)).poll(&mut context);
        assert!(matches!(too_long, Poll::Ready(Err(Error::TooLong { limit: SMALL, .. }))));
        drop(held);
        told.recv().unwrap();
        assert!(matches!(Pin::new(&mut room).poll(&mut context), Poll::Ready(Ok(()))), "{config}");
        writer.try_write(&bytes(1, 1000)).unwrap();
        drop(room);
        drop(waker);
        wait_until("the task is gone", || Arc::strong_count(&task) == 1);
        writer.close().unwrap();
    });
}

/// Many times round the buffers.
#[test]
fn tasks_that_await_room_lose_nothing() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut model = Vec::new();
        common::block_on::block_on(async {
            for serial in 0..200 {
                let data = bytes(serial, 1 + serial as usize * 131 % SMALL);
                writer.room(data.len()).await.unwrap();
                writer.try_write(&data).unwrap(); // it is there: nobody else pushes
                model.extend(data);
            }
        });
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

#[test]
fn a_waker_may_patch_while_another_thread_patches() {
    each_thread(|config, directory| {
        let options = config.options().buffers(8);
        let writer = options.create(directory.join("take")).unwrap().into_shared();
        writer.write_flush(&bytes(1, 300_000)).unwrap();
        let control = writer.control().clone();
        let patcher = std::thread::spawn(move || {
            (0..20).for_each(|_| control.patch(4096, &bytes(2, 290_000)).unwrap());
        });
        let (tell, told) = answers();
        while !patcher.is_finished() {
            let (control, tell) = (writer.control().clone(), tell.clone());
            let waker = waker(move || {
                tell.send(control.patch(0, b"x")).unwrap();
            });
            let ticket = wake(&writer, || drop(writer.try_write(&[3; 10])), &waker);
            match told.recv().unwrap() {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Deadlock, "{config}: {error}"),
            }
            drop(ticket);
        }
        patcher.join().unwrap();
        writer.close().unwrap();
    });
}

#[test]
fn what_would_wait_for_the_driver_in_a_waker_says_so() {
    each_thread(|config, directory| {
        for policy in [OnFull::Block, OnFull::BlockFor(Duration::from_secs(600))] {
            let options = config.options().on_full(policy);
            let writer = options.create(directory.join("take")).unwrap().into_shared();
            writer.write_flush(&bytes(1, 1 << 20)).unwrap();
            let (tell, told) = answers();
            let inside = writer.clone();
            let waker = waker(move || {
                let mut refused = Vec::new();
                let before = inside.try_write(b"room").unwrap(); // needs not wait
                let ticket = inside.fence();
                refused.push(("flush", Control::flush(&inside).err()));
                refused.push(("wait", ticket.wait().err()));
                let timeout = ticket.wait_timeout(Duration::from_secs(600));
                refused.push(("wait_timeout", timeout.err()));
                refused.push(("write_flush", inside.write_flush(b"goes nowhere").err()));
                let checkpoint = inside.checkpoint(0, |_| [0; 4]);
                refused.push(("checkpoint", checkpoint.err()));
                inside.patch(before, b"moor").unwrap(); // needs not wait
                let long = vec![0; 1 << 20];
                refused.push(("a patch of many pieces", inside.patch(0, &long).err()));
                let mut taken = before + 4;
                while inside.try_write(&[1; 100]).is_ok() {
                    taken += 100;
                }
                refused.push(("write", inside.write(&[2; 100]).err()));
                if policy == OnFull::Block {
                    refused.push(("a long write", inside.write(&long).err()));
                }
                let taken_of_refused = inside.positions().accepted - taken;
                tell.send((refused, taken_of_refused)).unwrap();
            });
            let ticket = wake(&writer, || drop(writer.try_write(&[3; 10])), &waker);
            let (refused, taken) = told.recv().unwrap();
            for (call, error) in refused {
                let kind = error.as_ref().map(Error::kind);
                assert_eq!(kind, Some(ErrorKind::Deadlock), "{config}: {call}: {error:?}");
            }
            assert_eq!(taken, 0, "{config}: bytes of a call that was refused");
            drop(ticket);
            writer.flush().unwrap();
            assert!(writer.error().is_none());
            writer.close().unwrap();
        }
    });
}

/// Of a waker's close, and of a drop of the last writer in it: everything that a close does.
#[test]
fn a_writer_that_ends_in_a_waker_leaves_the_exact_file() {
    each_thread(|config, directory| {
        for closes in [false, true] {
            let path = directory.join("take");
            let writer = shared(config, &path);
            let data = Arc::new(Mutex::new(Vec::new()));
            let control = writer.control().clone();
            let (tell, told) = answers();
            let (inside, clone) = (Mutex::new(Some(writer)), data.clone());
            let inside = Arc::new(inside);
            let last = inside.clone();
            let waker = waker(move || {
                let writer = last.lock().unwrap().take().unwrap();
                writer.try_write(b"the last words").unwrap();
                clone.lock().unwrap().extend(b"the last words");
                let answer = match closes {
                    true => writer.close().err().map(|error| error.errors[0].kind()),
                    false => Some(ErrorKind::Deadlock),
                };
                tell.send(answer).unwrap();
            });
            let push = || {
                if let Some(writer) = &*inside.lock().unwrap() {
                    writer.try_write(&[7; 10]).unwrap();
                    data.lock().unwrap().extend([7; 10]);
                }
            };
            let ticket = wake(&control, push, &waker);
            assert_eq!(told.recv().unwrap(), Some(ErrorKind::Deadlock), "{config}");
            drop(ticket);
            let data = data.lock().unwrap();
            let exact = || std::fs::read(&path).unwrap().len() == data.len();
            wait_until("the file is exact", exact);
            assert_same(&std::fs::read(&path).unwrap(), &data, &config);
            assert!(control.error().is_none());
            assert!(matches!(control.patch(0, b"x"), Err(Error::Closed)), "{config}");
            drop(control);
            // It has let go of the lock.
            wait_until("another writer gets the file", || config.options().append(&path).is_ok());
        }
    });
}

/// Nobody is there to hear of it: the control says what the close met.
#[cfg(unix)]
#[test]
fn an_error_of_a_close_in_a_waker_is_the_streams() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let writer = shared(config, &path);
        let control = writer.control().clone();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let last = writer.clone();
        let waker = waker(move || drop(last.lock().unwrap().take()));
        std::fs::remove_file(&path).unwrap();
        let push = || {
            if let Some(writer) = &*writer.lock().unwrap() {
                writer.try_write(&[7; 10]).unwrap();
            }
        };
        let ticket = wake(&control, push, &waker);
        wait_until("the close has failed", || control.error().is_some());
        assert_eq!(control.error().unwrap().kind(), ErrorKind::NotFound, "{config}");
        assert_eq!(ticket.wait().unwrap(), ticket.position(), "{config}: durable all the same");
    });
}

/// Each driver's thread is in a waker that would wait for the other.
#[test]
fn wakers_that_flush_each_others_writer_are_answered() {
    if std::env::var_os("WRITEFLUSH_SHARE").is_some() {
        return; // they run on two drivers' threads at once
    }
    each_thread(|config, directory| {
        let writers = ["one", "two"].map(|name| shared(config, &directory.join(name)));
        let (tell, told) = answers();
        let met = Arc::new(std::sync::Barrier::new(2));
        let tickets = [0, 1].map(|it| {
            let other = writers[1 - it].clone();
            let (tell, met) = (tell.clone(), met.clone());
            let waker = waker(move || {
                met.wait();
                other.try_write(b"more").unwrap();
                tell.send(Control::flush(&other)).unwrap();
            });
            wake(&writers[it], || drop(writers[it].try_write(&[3; 10])), &waker)
        });
        // The first answer sets a driver free: by the time that the other waker looks, its bytes may
        // be durable, and then it need not wait.
        let answers = [told.recv().unwrap(), told.recv().unwrap()];
        let refused = |answer: &Result<u64, Error>| {
            answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Deadlock)
        };
        assert!(answers.iter().any(refused), "{config}: {answers:?}");
        assert!(
            answers.iter().all(|answer| refused(answer) || matches!(answer, Ok(14))),
            "{config}: {answers:?}"
        );
        drop(tickets);
        writers.into_iter().for_each(|writer| drop(writer.close().unwrap()));
    });
}

/// As an executor that runs its tasks where they are woken; another writer is driven there, too.
#[test]
fn a_waker_may_poll_and_drive_another_writer() {
    each_thread(|config, directory| {
        let writer = shared(config, &directory.join("take"));
        let other = Config { drive: Drive::Caller, ..config }.create(&directory.join("other"));
        let (tell, told) = answers();
        let (inside, mut other) = (writer.clone(), other);
        let waker = waker(move || {
            inside.try_write(&[4; 10]).unwrap();
            let mut again = inside.fence();
            let polled = [(); 2].map(|()| poll(&mut again, Waker::noop()).is_ready());
            let through = other.write_flush(&[1; 1000]);
            tell.send((again, polled, through, other.close().is_ok())).unwrap();
        });
        let ticket = wake(&writer, || drop(writer.try_write(&[3; 10])), &waker);
        let (again, polled, through, closed) = told.recv().unwrap();
        assert_eq!(polled, [false; 2], "{config}: this thread would have to do it");
        assert!(common::block_on::block_on(again).unwrap() > ticket.position(), "{config}");
        assert!(through.unwrap() == 1000 && closed, "{config}");
        writer.close().unwrap();
    });
}

/// A poll is a call of ours as well: the registry is free while a waker runs, and while one is
/// cloned or dropped.
#[test]
fn a_waker_may_wait_for_a_lock_that_a_thread_holds_while_it_polls() {
    each_thread(|config, directory| {
        let writer = shared(config, &directory.join("take"));
        let lock = Arc::new(Mutex::new(()));
        for _ in 0..50 {
            let held = lock.lock().unwrap();
            let (clone, (tell, told)) = (lock.clone(), answers());
            let waker = waker(move || {
                tell.send(()).unwrap();
                drop(clone.lock().unwrap());
                tell.send(()).unwrap();
            });
            let ticket = wake(&writer, || drop(writer.try_write(&[3; 10])), &waker);
            told.recv().unwrap(); // it waits for the lock, or is about to
            for _ in 0..20 {
                writer.try_write(&[4; 10]).ok();
                let _ = poll(&mut writer.fence(), Waker::noop()).map(drop);
            }
            drop(held);
            told.recv().unwrap();
            drop(ticket);
        }
        writer.close().unwrap();
    });
}
