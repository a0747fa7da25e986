//! A driver that writers share.

use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::backend::{Backend, Files};
use crate::driver::shared::Hub;
use crate::driver::{Engine, FILES};
#[cfg(all(test, unix, not(loom)))]
use crate::host::Host;
use crate::options::{BackendChoice, Drive, Options};

/// Carries the bytes of any number of writers with one thread and one io_uring: for who records many
/// streams at once. A writer without one has a driver of its own.
///
/// Writers join by [`Options::driver`] and leave when they are closed, at any time; that holds up
/// nobody else. What each is promised is what it would be promised alone: a file that fails, is full or
/// has a stalled disk fails or stalls for its own writer. (But the `Sync` backend does one thing at a
/// time, for all of them; and a block that a patch or an append covers in part is read by the thread
/// itself, as is a file's length set, so a disk that hangs in the midst of that holds up all.)
///
/// Cloning is cheap. The thread ends when the last clone and the last writer are gone. `Send + Sync`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use writeflush::{Driver, Options};
///
/// let driver = Driver::new()?;
/// let options = Options::new().driver(&driver);
/// let left = options.create(dir.path().join("left.raw"))?;
/// let right = options.create(dir.path().join("right.raw"))?;
/// # left.close()?;
/// # right.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Driver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    backend: Backend,
    fallback: Option<String>,
}

impl UnwindSafe for Driver {}
impl RefUnwindSafe for Driver {}

impl Driver {
    /// With a thread that sleeps while there is nothing to do, and everything else at its default.
    ///
    /// # Errors
    /// As [`DriverOptions::start`].
    pub fn new() -> io::Result<Self> {
        DriverOptions::new().start()
    }

    /// Which backend it uses.
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    /// Why it is not the best one, if another was to be had by [`BackendChoice::Auto`].
    pub fn fallback(&self) -> Option<&str> {
        self.0.fallback.as_deref()
    }

    /// Bytes of memory that its writers take at this moment.
    pub fn memory(&self) -> u64 {
        self.0.hub.memory()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }
}

/// How to start a [`Driver`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use writeflush::{Drive, DriverOptions};
///
/// let driver = DriverOptions::new().drive(Drive::Poll).memory_limit(256 << 20).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DriverOptions {
    of_its_writers: Options,
    depth: usize,
    memory_limit: usize,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self { of_its_writers: Options::new(), depth: 256, memory_limit: 1 << 30 }
    }
}

impl DriverOptions {
    /// For writers that would have a driver of their own with these options: as many as there is memory
    /// for.
    pub(crate) fn of(writer: &Options) -> Self {
        Self { of_its_writers: writer.clone(), memory_limit: usize::MAX, ..Self::default() }
    }

    /// A thread that sleeps, the best backend, and at most 1 GiB of memory for all writers together.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which backend to use.
    pub fn backend(mut self, choice: BackendChoice) -> Self {
        self.of_its_writers.backend = choice;
        self
    }

    /// Who drives: a thread that sleeps when there is nothing to do ([`Drive::Thread`], the default),
    /// one that never sleeps ([`Drive::Poll`]), or whoever waits for one of the writers
    /// ([`Drive::Caller`]), who does meanwhile what has come up for the others.
    pub fn drive(mut self, drive: Drive) -> Self {
        self.of_its_writers.drive = drive;
        self
    }

    /// Operations that may be under way in the kernel at a time, of all writers together, 8 to 4096
    /// (default 256).
    pub fn depth(mut self, operations: usize) -> Self {
        self.depth = operations;
        self
    }

    /// The most memory, in bytes, that its writers may take together (default 1 GiB): an open that
    /// would need more is refused.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// As [`Options::thread_setup`].
    pub fn thread_setup(
        mut self,
        setup: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.of_its_writers = self.of_its_writers.thread_setup(setup);
        self
    }

    /// On a simulated computer.
    #[cfg(all(test, unix, not(loom)))]
    pub(crate) fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.of_its_writers.host = host;
        self
    }

    /// Starts its thread, if it has one.
    ///
    /// # Errors
    /// `InvalidInput` if the options can't work, with a sentence; the system's error if it refuses the
    /// backend, or a thread.
    pub fn start(&self) -> io::Result<Driver> {
        self.check().map_err(|sentence| io::Error::new(io::ErrorKind::InvalidInput, sentence))?;
        let best = self.start_with(&self.of_its_writers);
        let is_free = self.of_its_writers.backend == BackendChoice::Auto;
        match best {
            Err(error) if is_free => {
                let plain = self.of_its_writers.clone().backend(BackendChoice::Sync);
                let (hub, backend, _) = self.start_with(&plain)?;
                Ok(Driver(Arc::new(Shared { hub, backend, fallback: Some(error.to_string()) })))
            }
            best => {
                let (hub, backend, fallback) = best?;
                Ok(Driver(Arc::new(Shared { hub, backend, fallback })))
            }
        }
    }

    fn start_with(&self, options: &Options) -> io::Result<(Arc<Hub>, Backend, Option<String>)> {
        let (io, fallback) = options.host.backend(options, self.depth, Files::Many)?;
        let backend = io.kind();
        let (drive, setup) = (options.drive, &options.thread_setup);
        let hub = Hub::start(Engine::new(io, FILES), drive, setup, self.memory_limit)?;
        Ok((hub, backend, fallback))
    }

    fn check(&self) -> Result<(), String> {
        if !(8..=4096).contains(&self.depth) {
            return Err(format!("a depth of {} operations can't work: give 8 to 4096", self.depth));
        }
        Ok(())
    }
}
