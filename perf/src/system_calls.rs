//! Counts the system calls of this process and of the threads it will have.

/// A running count.
#[derive(Debug)]
pub(crate) struct SystemCalls {
    #[cfg(target_os = "linux")]
    counter: std::sync::Mutex<perf_event::Counter>,
}

#[cfg(target_os = "linux")]
impl SystemCalls {
    /// `None` where the kernel does not let us: it takes root, or a tracefs that can be read and
    /// `perf_event_paranoid` at most 0.
    pub(crate) fn start() -> Option<Self> {
        let event = perf_event::events::Tracepoint::with_id(linux::entry()?);
        let mut builder = perf_event::Builder::new(event);
        builder.observe_self().any_cpu().inherit(true).include_kernel();
        let mut counter = builder.build().ok()?;
        counter.enable().ok()?;
        Some(Self { counter: counter.into() })
    }

    pub(crate) fn read(&self) -> Option<u64> {
        self.counter.lock().ok()?.read().ok()
    }
}

#[cfg(not(target_os = "linux"))]
impl SystemCalls {
    pub(crate) fn start() -> Option<Self> {
        None
    }

    pub(crate) fn read(&self) -> Option<u64> {
        None
    }
}

#[cfg(target_os = "linux")]
pub(crate) use self::linux::trace_point;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::sync::OnceLock;

    use rustix::mount::{MountFlags, mount};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    /// The number of the kernel's trace point at the entry of every system call.
    pub(super) fn entry() -> Option<u64> {
        static ID: OnceLock<Option<u64>> = OnceLock::new();
        *ID.get_or_init(|| trace_point("raw_syscalls/sys_enter"))
    }

    /// The number of one of the kernel's trace points, where we may see it.
    pub(crate) fn trace_point(name: &'static str) -> Option<u64> {
        let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let seen = mounted.iter().find_map(|root| read(Path::new(root), name));
        seen.or_else(|| mount_and_read(name))
    }

    fn read(root: &Path, name: &str) -> Option<u64> {
        let path = root.join("events").join(name).join("id");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Where tracefs is not mounted: mounts it for a moment where nobody else sees it, in a
    /// thread that has its mounts to itself and takes them with it.
    fn mount_and_read(name: &'static str) -> Option<u64> {
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().ok()?;
            private_mounts()?;
            mount("none", folder.path(), "tracefs", MountFlags::empty(), None).ok()?;
            let id = read(folder.path(), name);
            rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::DETACH).ok()?;
            id
        })
        .join()
        .ok()?
    }

    #[allow(unsafe_code)]
    fn private_mounts() -> Option<()> {
        use rustix::mount::{MountPropagationFlags, mount_change};
        // SAFETY: it takes nothing away from other threads: descriptors stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.ok()?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).ok()
    }
}

#[cfg(test)]
#[path = "../../tests/common/skip.rs"]
pub(crate) mod skip;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_where_the_kernel_lets_us() {
        let Some(count) = SystemCalls::start() else {
            return skip::skip("system calls", "they can't be counted here");
        };
        let before = count.read().unwrap();
        std::thread::spawn(|| (0..100).for_each(|_| drop(std::fs::metadata("/")))).join().unwrap();
        let calls = count.read().unwrap() - before;
        assert!((100..1000).contains(&calls), "{calls}");
    }
}
