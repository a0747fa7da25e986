//! A driver whose thread stands still for as long as a test likes.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use writeflush::Control;

/// The driver's thread goes on when this is dropped.
pub struct Held {
    _go_on: Sender<()>,
}

struct StandStill {
    tell: Sender<()>,
    until: Mutex<Receiver<()>>,
}

impl Wake for StandStill {
    fn wake(self: Arc<Self>) {
        let _ = self.tell.send(());
        let _ = self.until.lock().unwrap().recv(); // an error, when the other end is gone
    }
}

/// Keeps the driver's thread in a waker. Pushes until there is a fence that is not through at once.
pub fn hold_driver(control: &Control, mut push: impl FnMut()) -> Held {
    let (tell, told) = channel();
    let (go_on, until) = channel();
    let waker = Waker::from(Arc::new(StandStill { tell, until: Mutex::new(until) }));
    loop {
        push();
        let mut ticket = control.fence();
        let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            told.recv().unwrap();
            return Held { _go_on: go_on };
        }
    }
}
