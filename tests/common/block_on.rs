//! Awaiting without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// The least that runs a future: park until it is woken.
struct Unpark {
    thread: Thread,
    woken: AtomicUsize,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicUsize::new(0) });
    let waker = Waker::from(unpark.clone());
    let mut future = pin!(future);
    loop {
        let woken = unpark.woken.load(Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // Only a wake-up counts: a waker that is forgotten hangs here.
        while unpark.woken.load(Ordering::SeqCst) == woken {
            std::thread::park();
        }
    }
}
