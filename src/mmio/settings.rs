//! How the procedure opens files: a message has no room for it.

use std::sync::RwLock;
use std::time::Duration;

use crate::options::{BackendChoice, Direct, Options};
use crate::overrun::OnFull;
use crate::sync::ignore_poison;

static IN_FORCE: RwLock<Option<Settings>> = RwLock::new(None);

/// How the I/O procedure opens files to write. Of the whole process, since a message has no room
/// for it; [`apply`](Self::apply) it before the first OPEN.
#[derive(Clone, Debug)]
pub struct Settings {
    options: Options,
    fence_every: Option<Duration>,
    fence_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: as_winmm_writes(),
            fence_every: Some(Duration::from_secs(1)),
            fence_bytes: None,
        }
    }
}

/// As winmm's own procedure: through the page cache, where every other program reads the exact bytes,
/// and an overwrite reads no block back. On Windows that is so anyway.
fn as_winmm_writes() -> Options {
    match cfg!(target_os = "linux") {
        // With io_uring an open and a close take twice as long: a ring and a thread more.
        true => Options::new().backend(BackendChoice::Sync).direct(Direct::Off),
        false => Options::new(),
    }
}

impl Settings {
    /// The default [`Options`], on Linux with [`BackendChoice::Sync`] and [`Direct::Off`], and a fence
    /// every second.
    pub fn new() -> Self {
        Self::default()
    }

    /// How writers are opened, in place of what [`new`](Self::new) says: for a stream of hundreds of
    /// megabytes a second the default [`Options`] as they are. The overrun policy is always
    /// [`OnFull::Block`]: a WRITE has no way to say that it took less; and what is fenced unasked is
    /// said here.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// A fence at this interval, for programs that never ask for one (default 1 s; `None`: never):
    /// [`Options::fence_every`].
    pub fn fence_every(mut self, interval: Option<Duration>) -> Self {
        self.fence_every = interval;
        self
    }

    /// A fence over so many bytes at the latest (default `None`: never):
    /// [`Options::fence_bytes`]. The WRITE that makes one due does not wait.
    pub fn fence_bytes(mut self, bytes: Option<u64>) -> Self {
        self.fence_bytes = bytes;
        self
    }

    /// From now on every OPEN of this process goes by these settings.
    pub fn apply(self) {
        *ignore_poison(IN_FORCE.write()) = Some(self);
    }

    pub(super) fn in_force() -> Options {
        let settings = ignore_poison(IN_FORCE.read()).clone().unwrap_or_default();
        let Self { options, fence_every, fence_bytes } = settings;
        options.on_full(OnFull::Block).fence_every(fence_every).fence_bytes(fence_bytes)
    }
}
