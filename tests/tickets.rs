//! Tickets: waited for, looked at, awaited without a runtime, dropped, kept past the close, and
//! handed to other threads.

mod common;

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use common::block_on::block_on;
use common::{Config, assert_file, bytes, each_config};
use writeflush::{Ticket, Writer};

fn push(writer: &mut Writer, serial: u64, len: usize) -> Vec<u8> {
    let data = bytes(serial, len);
    assert!(writer.write(&data).unwrap().position().is_some());
    data
}

#[test]
fn wait_returns_the_position_and_it_is_durable() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        for serial in 0..20 {
            push(&mut writer, serial, 777);
            let ticket = writer.fence();
            assert_eq!(ticket.position(), (serial + 1) * 777);
            assert_eq!(ticket.wait().unwrap(), ticket.position());
            assert!(writer.positions().durable >= ticket.position());
            assert!(ticket.is_durable().unwrap());
            assert_eq!(ticket.wait_timeout(Duration::ZERO).unwrap(), Some(ticket.position()));
        }
        writer.close().unwrap();
    });
}

#[test]
fn a_timeout_is_no_answer_and_the_fence_goes_on() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        push(&mut writer, 1, 1000);
        let ticket = writer.fence();
        let first = ticket.wait_timeout(Duration::ZERO).unwrap();
        assert!(matches!(first, None | Some(1000)), "{config}: {first:?}");
        while ticket.wait_timeout(Duration::from_millis(1)).unwrap().is_none() {}
        assert_eq!(writer.positions().durable, 1000);
        assert_eq!(ticket.wait_timeout(Duration::MAX).unwrap(), Some(1000));
    });
}

#[test]
fn where_nobody_drives_a_ticket_stays_open_until_someone_waits() {
    let directory = common::directory();
    let mut writer = Config::STILL.create(&directory.path().join("take"));
    push(&mut writer, 1, 1000);
    let ticket = writer.fence();
    assert_eq!(writer.positions().durable, 0);
    assert_eq!(ticket.wait_timeout(Duration::ZERO).unwrap(), None);
    assert_eq!(ticket.wait().unwrap(), 1000);
}

#[test]
fn looking_alone_gets_there() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        push(&mut writer, 1, 1000);
        let ticket = writer.fence();
        while !ticket.is_durable().unwrap() {
            assert!(writer.positions().durable <= 1000);
            std::thread::yield_now();
        }
        assert_eq!(writer.positions().durable, 1000);
    });
}

#[test]
fn a_ticket_is_a_future_that_needs_no_runtime() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        for serial in 0..50 {
            push(&mut writer, serial, 500);
            let ticket = writer.fence();
            let position = ticket.position();
            assert_eq!(block_on(ticket).unwrap(), position, "{config}");
            assert!(writer.positions().durable >= position);
        }
    });
}

#[test]
fn tasks_in_many_threads_are_all_woken() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        for serial in 0..20 {
            push(&mut writer, serial, 3000);
            let ticket = writer.fence();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let ticket = ticket.clone();
                    scope.spawn(move || assert_eq!(block_on(ticket).unwrap(), (serial + 1) * 3000));
                }
            });
        }
    });
}

#[test]
fn a_thousand_tickets_share_fences() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().buffer_size(1 << 16).create(&path).unwrap();
        let mut model = Vec::new();
        let mut tickets = Vec::new();
        for serial in 0..1000 {
            model.extend(push(&mut writer, serial, 8));
            tickets.push(writer.fence());
        }
        assert_eq!(tickets[999].wait().unwrap(), 8000);
        for (ticket, serial) in tickets.iter().zip(1..) {
            assert!(ticket.is_durable().unwrap());
            assert_eq!(ticket.wait().unwrap(), 8 * serial);
        }
        let stats = writer.stats();
        assert_eq!(stats.fences, 1000);
        assert!(stats.flushes <= 1000 && stats.fences_coalesced < 1000);
        if config.drive == Config::STILL.drive && config.backend == Config::STILL.backend {
            // Nothing moved before the wait, so one flush did for all.
            assert_eq!((stats.flushes, stats.fences_coalesced), (1, 999), "{config}");
        }
        drop(tickets);
        assert_eq!(writer.close().unwrap().positions.durable, 8000);
        assert_file(&path, &model, &config);
    });
}

#[test]
fn dropped_tickets_leave_nothing_behind() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut model = Vec::new();
        for serial in 0..300 {
            model.extend(push(&mut writer, serial, 100));
            let ticket = writer.fence();
            if serial % 3 == 0 {
                // Polled once, then forgotten with its waker registered.
                let mut ticket = Box::pin(ticket);
                let _ = ticket.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(drop);
            }
        }
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

#[test]
fn a_ticket_is_true_after_the_close() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        push(&mut writer, 1, 5000);
        let ticket = writer.fence();
        push(&mut writer, 2, 100);
        let control = writer.control().clone();
        writer.close().unwrap();
        assert_eq!(ticket.wait().unwrap(), 5000);
        assert!(ticket.is_durable().unwrap());
        assert_eq!(block_on(ticket.clone()).unwrap(), 5000);
        assert_eq!(control.fence().wait().unwrap(), 5100);
        assert_eq!(control.positions().durable, 5100);
    });
}

/// The waiter drives while the writer goes on, and the writer drives while the waiter looks.
#[test]
fn tickets_in_other_threads_while_the_writer_goes_on() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut model = Vec::new();
        std::thread::scope(|scope| {
            let (send, tickets) = std::sync::mpsc::channel::<Ticket>();
            let waiter = scope.spawn(move || {
                for (index, ticket) in tickets.into_iter().enumerate() {
                    let position = ticket.position();
                    let answer = match index % 3 {
                        0 => ticket.wait().unwrap(),
                        1 => block_on(ticket).unwrap(),
                        _ => loop {
                            let limit = Duration::from_micros(50);
                            if let Some(position) = ticket.wait_timeout(limit).unwrap() {
                                break position;
                            }
                        },
                    };
                    assert_eq!(answer, position);
                }
            });
            for serial in 0..300 {
                model.extend(push(&mut writer, serial, 1 + serial as usize * 31 % 5000));
                send.send(writer.fence()).unwrap();
            }
            drop(send);
            waiter.join().unwrap();
        });
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

#[test]
fn a_writer_may_move_between_threads() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut model = Vec::new();
        for serial in 0..20 {
            let (moved, data) = std::thread::spawn(move || {
                let data = push(&mut writer, serial, 6000);
                let ticket = writer.fence();
                if serial % 2 == 0 {
                    ticket.wait().unwrap();
                }
                (writer, data)
            })
            .join()
            .unwrap();
            writer = moved;
            model.extend(data);
        }
        writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
        assert_file(&path, &model, &config);
    });
}

#[test]
fn nothing_to_do_is_durable_at_once() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        assert!(writer.fence().is_durable().unwrap());
        push(&mut writer, 1, 10);
        assert_eq!(writer.flush().unwrap(), 10);
        let flushes = writer.stats().flushes;
        assert!(writer.fence().is_durable().unwrap());
        assert_eq!(writer.flush().unwrap(), 10);
        assert_eq!(writer.stats().flushes, flushes, "{config}: a flush with nothing to flush");
    });
}

/// What a task of an executor may do when it is woken.
struct OnWake<F>(std::sync::Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> OnWake<F> {
    fn waker(act: F) -> Waker {
        Waker::from(std::sync::Arc::new(Self(std::sync::Mutex::new(Some(act)))))
    }
}

impl<F: FnOnce() + Send + 'static> std::task::Wake for OnWake<F> {
    fn wake(self: std::sync::Arc<Self>) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    each_config(|config, directory| {
        let mut writer = config.create(&directory.join("take"));
        push(&mut writer, 1, 1000);
        let mut ticket = writer.fence();
        let (tell, told) = std::sync::mpsc::channel();
        let waker = OnWake::waker(move || {
            let _ = tell.send(());
            std::panic::resume_unwind(Box::new("a waker's own trouble"));
        });
        let pinned = std::pin::Pin::new(&mut ticket);
        if pinned.poll(&mut Context::from_waker(&waker)).is_pending()
            && config.drive != writeflush::Drive::Caller
        {
            told.recv().unwrap();
        }
        push(&mut writer, 2, 1000);
        assert_eq!(writer.flush().unwrap(), 2000, "{config}");
        writer.close().unwrap();
    });
}

#[test]
fn a_waker_that_drops_the_last_writer_hangs_nobody() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let data = push(&mut writer, 1, 1000);
        let mut ticket = writer.fence();
        let (tell, told) = std::sync::mpsc::channel();
        let waker = OnWake::waker(move || {
            drop(writer);
            let _ = tell.send(());
        });
        let pinned = std::pin::Pin::new(&mut ticket);
        let pending = pinned.poll(&mut Context::from_waker(&waker)).is_pending();
        drop(waker); // where the ticket was through at once, the writer goes here
        if pending {
            let _ = ticket.wait();
        }
        told.recv().ok();
        drop(ticket);
        assert!(std::fs::read(&path).unwrap().starts_with(&data), "{config}");
    });
}
