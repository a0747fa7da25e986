//! How the procedure opens files: a message has no room for it.

use std::sync::RwLock;
use std::time::Duration;

use crate::options::Options;
use crate::overrun::OnFull;
use crate::sync::ignore_poison;

static IN_FORCE: RwLock<Option<Settings>> = RwLock::new(None);

/// How the I/O procedure opens files to write. Of the whole process, since a message has no room
/// for it; [`apply`](Self::apply) it before the first OPEN.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) options: Options,
    pub(super) fence_every: Option<Duration>,
    pub(super) fence_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Options::new(),
            fence_every: Some(Duration::from_secs(1)),
            fence_bytes: None,
        }
    }
}

impl Settings {
    /// The default [`Options`], and a fence every second.
    pub fn new() -> Self {
        Self::default()
    }

    /// How writers are opened. The overrun policy is always [`OnFull::Block`]: a WRITE has no way
    /// to say that it took less.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// A fence at this interval, for programs that never ask for one (default 1 s; `None`: never;
    /// at least a millisecond). Costs a thread for each file open for writing, and a device flush
    /// each time something is new.
    pub fn fence_every(mut self, interval: Option<Duration>) -> Self {
        self.fence_every = interval.map(|interval| interval.max(Duration::from_millis(1)));
        self
    }

    /// A fence whenever so many bytes have been written since the last of these (default `None`:
    /// never). The WRITE that asks for it does not wait.
    pub fn fence_bytes(mut self, bytes: Option<u64>) -> Self {
        self.fence_bytes = bytes;
        self
    }

    /// From now on every OPEN of this process goes by these settings.
    pub fn apply(self) {
        *ignore_poison(IN_FORCE.write()) = Some(self);
    }

    pub(super) fn in_force() -> Self {
        let mut settings = ignore_poison(IN_FORCE.read()).clone().unwrap_or_default();
        settings.options = settings.options.on_full(OnFull::Block);
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interval_makes_the_thread_of_the_fences_spin() {
        let settings = Settings::new().fence_every(Some(Duration::ZERO));
        assert_eq!(settings.fence_every, Some(Duration::from_millis(1)));
    }
}
