//! A process that ends with writers open, since nobody closed or dropped them: what they hold can
//! still be written out. Unix runs the handlers of `exit` while every thread goes on; Windows ends
//! the threads first and tells its libraries then.

#[cfg(unix)]
mod unix;

use std::sync::{Arc, Mutex, Weak};

use crate::core::Core;
use crate::sync::ignore_poison;

/// Every writer of a process that may be open.
type Open = Mutex<Vec<Weak<Core>>>;

#[cfg(unix)]
use unix::open;

#[cfg(windows)]
fn open() -> &'static Open {
    static OPEN: Open = Mutex::new(Vec::new());
    &OPEN
}

pub(crate) fn remember(core: &Arc<Core>) {
    #[cfg(unix)]
    if !core.is_of_the_system() {
        return; // what is simulated ends with its test
    }
    #[cfg(unix)]
    unix::listen();
    let mut open = ignore_poison(open().lock());
    open.retain(|core| core.strong_count() > 0);
    open.push(Arc::downgrade(core));
}

/// For `DLL_PROCESS_DETACH` at the end of a process, when every other thread is gone: writes out and
/// flushes each writer that is open, however it was opened, as well as that goes. It waits for the
/// disk only, and neither allocates nor frees. Left as they are: a writer whose file was being closed
/// at that moment; bytes that a producer was still copying; and all of them, if a thread was just
/// opening a writer.
#[cfg(windows)]
#[doc(hidden)]
pub fn process_ends() {
    use std::sync::TryLockError;
    let open = match open().try_lock() {
        Ok(open) => open,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    for core in open.iter().filter_map(Weak::upgrade) {
        let _ = core.rescue(); // nobody is left who could be told
        std::mem::forget(core); // the last one would be closed by a drop
    }
}
