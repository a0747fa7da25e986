//! Windows ends a process with its threads first and tells its libraries then: what they have open
//! can still be written out.

use std::sync::{Arc, Mutex, TryLockError, Weak};

use crate::core::Core;
use crate::sync::ignore_poison;

/// Every writer of this process that may be open.
static OPEN: Mutex<Vec<Weak<Core>>> = Mutex::new(Vec::new());

pub(crate) fn remember(core: &Arc<Core>) {
    let mut open = ignore_poison(OPEN.lock());
    open.retain(|core| core.strong_count() > 0);
    open.push(Arc::downgrade(core));
}

/// For `DLL_PROCESS_DETACH` at the end of a process, when every other thread is gone: writes out and
/// flushes each writer that is open, however it was opened, as well as that goes. It waits for the
/// disk only, and neither allocates nor frees. Left as they are: a writer whose file was being closed
/// at that moment; bytes that a producer was still copying; and all of them, if a thread was just
/// opening a writer.
#[doc(hidden)]
pub fn process_ends() {
    let open = match OPEN.try_lock() {
        Ok(open) => open,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    for core in open.iter().filter_map(Weak::upgrade) {
        let _ = core.rescue(); // nobody is left who could be told
        std::mem::forget(core); // the last one would be closed by a drop
    }
}
