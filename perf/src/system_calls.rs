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
mod linux {
    use std::sync::OnceLock;

    use writeflush_workloads::trace_point;

    /// The number of the kernel's trace point at the entry of every system call.
    pub(super) fn entry() -> Option<u64> {
        static ID: OnceLock<Option<u64>> = OnceLock::new();
        *ID.get_or_init(|| trace_point("raw_syscalls/sys_enter"))
    }
}

#[cfg(test)]
#[path = "../../tests/common/skip.rs"]
mod skip;

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
