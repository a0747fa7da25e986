//! Writes that carry their own fence to the device (FUA). No counter of the device shows them; the
//! kernel's trace point at the start of every request does: in its `rwbs` an F stands behind the W
//! (blk_fill_rwbs, include/trace/events/block.h).

#[cfg(target_os = "linux")]
pub(crate) use self::linux::FencedWrites;

/// Nothing of the kind can be seen here.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct FencedWrites;

#[cfg(not(target_os = "linux"))]
impl FencedWrites {
    pub(crate) fn start(_: &writeflush_workloads::Disk) -> Option<Self> {
        None
    }

    pub(crate) fn read(&mut self) -> Option<u64> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::os::fd::AsRawFd;

    use perf_event::{Builder, Counter, events::Tracepoint};
    use writeflush_workloads::Disk;

    use crate::system_calls::trace_point;

    /// A running count of one disk's, of all processors. Nothing of it stays in the kernel.
    #[derive(Debug)]
    pub(crate) struct FencedWrites(Vec<Counter>);

    impl FencedWrites {
        /// `None` where the kernel does not let us: it takes root.
        pub(crate) fn start(disk: &Disk) -> Option<Self> {
            Self::of(disk, "*WF*")
        }

        /// Requests whose `rwbs` is like `kind`.
        pub(super) fn of(disk: &Disk, kind: &str) -> Option<Self> {
            let number = disk.attribute("dev")?;
            let (major, minor) = number.split_once(':')?;
            let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
            // As the kernel packs it (MKDEV, include/linux/kdev_t.h).
            let filter = format!("dev == {} && rwbs ~ \"{kind}\"", major << 20 | minor);
            let filter = CString::new(filter).ok()?;
            let id = trace_point("block/block_rq_issue")?;
            let processors = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
            let counter = |cpu| counter(id, cpu, &filter);
            numbers(processors.trim())?.into_iter().map(counter).collect::<Option<_>>().map(Self)
        }

        pub(crate) fn read(&mut self) -> Option<u64> {
            self.0.iter_mut().map(|counter| counter.read().ok()).sum()
        }
    }

    fn counter(id: u64, cpu: usize, filter: &CString) -> Option<Counter> {
        let mut builder = Builder::new(Tracepoint::with_id(id));
        let mut counter = builder.any_pid().one_cpu(cpu).include_kernel().build().ok()?;
        set_filter(&counter, filter)?;
        counter.enable().ok()?;
        Some(counter)
    }

    #[allow(unsafe_code)]
    fn set_filter(counter: &Counter, filter: &CString) -> Option<()> {
        /// PERF_EVENT_IOC_SET_FILTER: _IOW('$', 6, char *).
        const SET_FILTER: u64 = 0x4008_2406;
        // SAFETY: the descriptor is open, and the string outlives the call, which copies it.
        let done = unsafe { libc::ioctl(counter.as_raw_fd(), SET_FILTER, filter.as_ptr()) };
        (done == 0).then_some(())
    }

    /// `0-3,6` as the kernel writes lists of processors.
    fn numbers(list: &str) -> Option<Vec<usize>> {
        let mut all = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
        }
        Some(all)
    }

    #[cfg(test)]
    mod tests {
        use std::io::Write;

        use writeflush_workloads::Device;

        use super::*;
        use crate::system_calls::skip::skip;

        #[test]
        fn a_list_of_processors_is_read() {
            assert_eq!(numbers("0-1"), Some(vec![0, 1]));
            assert_eq!(numbers("0,2-4"), Some(vec![0, 2, 3, 4]));
            assert_eq!(numbers("x"), None);
        }

        /// No disk here takes fenced writes: that requests of a kind are counted is seen by others.
        #[test]
        fn requests_of_a_disk_are_counted_by_their_kind() {
            let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let device = Device::under(folder.path()).unwrap();
            let Some(disk) = device.disks.iter().find(|disk| disk.first) else {
                return skip("requests of a disk", "there is no disk here");
            };
            let (Some(mut writes), Some(mut none)) =
                (FencedWrites::of(disk, "*W*"), FencedWrites::of(disk, "*Z*"))
            else {
                return skip("requests of a disk", "they can't be counted here");
            };
            let before = writes.read().unwrap();
            for n in 0..10 {
                let mut file = std::fs::File::create(folder.path().join(n.to_string())).unwrap();
                file.write_all(&[7; 4096]).unwrap();
                file.sync_data().unwrap();
            }
            assert!(writes.read().unwrap() - before >= 10);
            assert_eq!(none.read(), Some(0));
            assert!(FencedWrites::start(disk).is_some());
        }
    }
}
