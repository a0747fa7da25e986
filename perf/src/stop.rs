//! Signals that end what the tool does, in good order.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::INTERRUPTED;
use crate::output::say;
use crate::printer;

/// Set by Ctrl-C and its like; the recorder looks at it between two pieces, a measurement between
/// two rounds. Setting it again changes nothing, so that an impatient second Ctrl-C can't cut the
/// close short.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// What [`Stop::install`] hands out: a process has one set of signals.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// SIGUSR1 asks how it goes.
static STATE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// SIGHUP has come, and asks for the next segment where there are some.
static HANGUP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// SIGUSR2 has come.
#[cfg(unix)]
static EVENT: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGUSR2 is an event, and no end of the process.
#[cfg(unix)]
pub(crate) fn listen_for_events() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGUSR2, EVENT.clone()).map(drop)
}

#[cfg(not(unix))]
pub(crate) fn listen_for_events() -> io::Result<()> {
    Err(io::Error::other("there is no SIGUSR2 here"))
}

/// Whether SIGUSR2 has come since the last look.
pub(crate) fn has_event() -> bool {
    #[cfg(unix)]
    return EVENT.swap(false, Ordering::Relaxed);
    #[cfg(not(unix))]
    false
}

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// As the other signals: the terminal is gone.
    Ends,
    /// As of a service that is to begin a new file.
    Rotates,
}

/// Whether SIGHUP has come since the last look.
pub(crate) fn hung_up() -> bool {
    HANGUP.swap(false, Ordering::Relaxed)
}

/// Whether a signal has come; never without [`Stop::install`].
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// How often somebody who waits looks whether to stop.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks that a measurement which was asked to stop has to end in good order.
const LOOKS: u32 = 10;

impl Stop {
    pub(crate) fn install() -> io::Result<Self> {
        Self::install_with(Hangup::Ends)
    }

    #[cfg_attr(not(unix), expect(unused_variables, reason = "there is no SIGHUP"))]
    pub(crate) fn install_with(hangup: Hangup) -> io::Result<Self> {
        let stop = Self(ASKED.clone());
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        #[cfg(unix)]
        if !ignores_hangups() {
            signal_hook::flag::register(signal_hook::consts::SIGHUP, HANGUP.clone())?;
            if hangup == Hangup::Ends {
                signal_hook::flag::register(signal_hook::consts::SIGHUP, stop.0.clone())?;
            }
        }
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, STATE.clone())?;
        // A write past the limit on file sizes (setrlimit(2)) is then an error and no death.
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(stop)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether SIGUSR1 has come since the last look.
    pub(crate) fn state_asked(&self) -> bool {
        STATE.swap(false, Ordering::Relaxed)
    }

    /// What a signal makes true, for those who look at it themselves.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    /// A measurement that is asked to stop may hang in a call that waits for the disk: then the
    /// process ends without it, and without its data. As long as the answer lives.
    pub(crate) fn leave_in_time(&self, data: &Path) -> Orderly {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, told, data) = (self.clone(), over.clone(), data.to_owned());
        std::thread::spawn(move || {
            if hangs(&stop, &told) {
                // What still writes has open files only, whose names are gone. Again, where it has
                // just made another.
                let _ = (0..LOOKS).any(|_| std::fs::remove_dir_all(&data).is_ok());
                say("interrupted: nothing was kept");
                printer::finish();
                std::process::exit(INTERRUPTED.into());
            }
        });
        Orderly(over)
    }

    /// As a signal would.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// One that only [`ask`](Self::ask) sets.
    #[cfg(test)]
    pub(crate) fn unset() -> Self {
        Self(Arc::default())
    }
}

/// Whether the process was started by nohup(1), which wants it to outlive its terminal.
#[cfg(target_os = "linux")]
fn ignores_hangups() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    // A bit a signal, the first for signal 1 (proc_pid_status(5)).
    status.is_ok_and(|status| status.sigign & 1 << (signal_hook::consts::SIGHUP - 1) != 0)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn ignores_hangups() -> bool {
    false // there is no safe way to ask
}

/// Lets the process write to its terminal from the background, also after `stty tostop`, where it
/// would be stopped for that (termios(3), TOSTOP): blocked, the signal is not sent. For the start
/// of the process, since threads inherit it.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) fn go_on_in_the_background() {
    // SAFETY: the set lives on the stack and is emptied before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(not(unix))]
pub(crate) fn go_on_in_the_background() {}

/// Returns when the measurement is over, or has been asked to stop and does not; which of the two.
fn hangs(stop: &Stop, over: &AtomicBool) -> bool {
    let mut looks = 0;
    while !over.load(Ordering::Relaxed) {
        if looks > LOOKS {
            return true;
        }
        looks += u32::from(stop.asked());
        std::thread::sleep(LOOK_EVERY);
    }
    false
}

/// A measurement whose end is waited for.
#[derive(Debug)]
pub(crate) struct Orderly(Arc<AtomicBool>);

impl Drop for Orderly {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_that_does_not_stop_is_seen() {
        let stop = Stop::unset();
        let over = AtomicBool::new(true);
        assert!(!hangs(&stop, &over));
        over.store(false, Ordering::Relaxed);
        stop.ask();
        assert!(hangs(&stop, &over));
    }
}
