//! Signals that end what the tool does, in good order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Set by Ctrl-C and its like; the recorder looks at it between two pieces, a measurement between
/// two rounds. Setting it again changes nothing, so that an impatient second Ctrl-C can't cut the
/// close short.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn install() -> io::Result<Self> {
        let stop = Self(Arc::default());
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGHUP, stop.0.clone())?;
        // A write past the limit on file sizes (setrlimit(2)) is then an error and no death.
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(stop)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
