//! What this process holds of the system: descriptors and threads.

/// At one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) descriptors: u64,
    /// Without those that the kernel has lent.
    pub(super) threads: u64,
    /// Workers of io_uring, which count as threads of the process: the kernel starts them, and ends
    /// them when they have had nothing to do for some seconds.
    pub(super) workers: u64,
}

impl Held {
    /// `None`: this system doesn't say.
    pub(super) fn now() -> Option<Self> {
        let descriptors = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let mut held = Self { descriptors, threads: 0, workers: 0 };
        for task in std::fs::read_dir("/proc/self/task").ok()? {
            // One that has just ended is none.
            let Ok(name) = std::fs::read_to_string(task.ok()?.path().join("comm")) else {
                continue;
            };
            let lent = name.starts_with("iou-");
            *(if lent { &mut held.workers } else { &mut held.threads }) += 1;
        }
        Some(held)
    }

    /// More than before; of workers, which come and go, those that are there.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            threads: self.threads.saturating_sub(before.threads),
            workers: self.workers,
        }
    }

    pub(super) fn most(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            workers: self.workers.max(other.workers),
        }
    }
}

/// Descriptors that this process may have, and has. `None`: without limit, or not said.
pub(super) fn descriptors_left() -> Option<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
        Some((limit, Held::now()?.descriptors))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Other tests open files and start threads meanwhile: a process of its own would be exact, and
    /// `perf/tests/pace.rs` is.
    #[test]
    fn files_and_threads_are_counted() {
        let files: Vec<_> = (0..50).map(|_| tempfile::tempfile().unwrap()).collect();
        let held = Held::now().unwrap();
        assert!(held.descriptors >= 50 && held.threads >= 1, "{held:?}");
        let before = Held { descriptors: 5, threads: 1, workers: 7 };
        let now = Held { descriptors: 9, threads: 4, workers: 2 };
        assert_eq!(now.since(before), Held { descriptors: 4, threads: 3, workers: 2 });
        assert_eq!(now.most(before), Held { descriptors: 9, threads: 4, workers: 7 });
        assert!(descriptors_left().is_none_or(|(limit, have)| limit >= have && have >= 50));
        drop(files);
    }
}
