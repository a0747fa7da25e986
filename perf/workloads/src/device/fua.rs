//! Writes that carry their own fence to the device (FUA). No counter of a device shows them; the
//! kernel's trace point at the start of every request does: in its `rwbs` an F stands behind the W
//! (blk_fill_rwbs, include/trace/events/block.h).

#[cfg(target_os = "linux")]
pub use self::linux::FuaWrites;

/// Nothing of the kind can be seen here.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub struct FuaWrites;

#[cfg(not(target_os = "linux"))]
impl FuaWrites {
    /// Always an error here.
    ///
    /// # Errors
    /// Nothing of the kind can be seen.
    pub fn start(_: &[&super::Disk]) -> Result<Self, String> {
        Err("writes with FUA can be counted on Linux only".into())
    }

    /// Nothing.
    pub fn read(&mut self) -> Option<u64> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::os::fd::AsRawFd;

    use perf_event::{Builder, Counter, events::Tracepoint};

    use super::super::Disk;
    use crate::trace_point;

    /// A running count of some disks' writes with FUA, on all processors, since it was started.
    /// Nothing of it stays in the kernel.
    #[derive(Debug)]
    pub struct FuaWrites(Vec<Counter>);

    impl FuaWrites {
        /// Of these disks, from now on.
        ///
        /// # Errors
        /// Where the kernel does not let us, a sentence: it takes root.
        pub fn start(disks: &[&Disk]) -> Result<Self, String> {
            if disks.is_empty() {
                return Ok(Self(Vec::new())); // nothing to see, and no rights needed for it
            }
            Self::of(disks, "*WF*")
        }

        /// Requests whose `rwbs` is like `kind`.
        fn of(disks: &[&Disk], kind: &str) -> Result<Self, String> {
            const WHERE: &str = "the trace point block_rq_issue of tracefs";
            let id = trace_point("block/block_rq_issue")
                .ok_or_else(|| format!("{WHERE} can't be read; root can"))?;
            let processors = std::fs::read_to_string("/sys/devices/system/cpu/online");
            let processors = processors.ok().and_then(|list| numbers(list.trim()));
            let processors = processors.ok_or("the kernel does not list its processors")?;
            let mut counters = Vec::new();
            for disk in disks {
                let filter = filter(disk, kind).ok_or_else(|| {
                    format!("the kernel does not show the device number of {}", disk.name)
                })?;
                for cpu in &processors {
                    let counter = counter(id, *cpu, &filter);
                    counters.push(counter.map_err(|error| format!("{WHERE}: {error}"))?);
                }
            }
            Ok(Self(counters))
        }

        /// So many since the start; `None` if they can't be read.
        pub fn read(&mut self) -> Option<u64> {
            self.0.iter_mut().map(|counter| counter.read().ok()).sum()
        }
    }

    fn filter(disk: &Disk, kind: &str) -> Option<CString> {
        let number = disk.attribute("dev")?;
        let (major, minor) = number.split_once(':')?;
        let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
        // As the kernel packs it (MKDEV, include/linux/kdev_t.h).
        CString::new(format!("dev == {} && rwbs ~ \"{kind}\"", major << 20 | minor)).ok()
    }

    fn counter(id: u64, cpu: usize, filter: &CString) -> std::io::Result<Counter> {
        let mut builder = Builder::new(Tracepoint::with_id(id));
        let mut counter = builder.any_pid().one_cpu(cpu).include_kernel().build()?;
        set_filter(&counter, filter)?;
        counter.enable()?;
        Ok(counter)
    }

    #[allow(unsafe_code)]
    fn set_filter(counter: &Counter, filter: &CString) -> std::io::Result<()> {
        /// PERF_EVENT_IOC_SET_FILTER: _IOW('$', 6, char *).
        const SET_FILTER: u64 = 0x4008_2406;
        // SAFETY: the descriptor is open, and the string outlives the call, which copies it.
        let done = unsafe { libc::ioctl(counter.as_raw_fd(), SET_FILTER as _, filter.as_ptr()) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
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

        use super::*;
        use crate::Device;
        use crate::skip::skip;

        #[test]
        fn a_list_of_processors_is_read() {
            assert_eq!(numbers("0-1"), Some(vec![0, 1]));
            assert_eq!(numbers("0,2-4"), Some(vec![0, 2, 3, 4]));
            assert_eq!(numbers("x"), None);
        }

        /// No disk here may take FUA: that requests of a kind are counted is seen by others.
        #[test]
        fn requests_of_a_disk_are_counted_by_their_kind() {
            let folder = tempfile::tempdir_in(crate::scratch_dir()).unwrap();
            let device = Device::under(folder.path()).unwrap();
            let Some(disk) = device.disks.iter().find(|disk| disk.first) else {
                return skip("requests of a disk", "there is no disk here");
            };
            let both = FuaWrites::of(&[disk], "*W*")
                .and_then(|writes| FuaWrites::of(&[disk], "*Z*").map(|none| (writes, none)));
            let (mut writes, mut none) = match both {
                Ok(both) => both,
                Err(reason) => return skip("requests of a disk", &reason),
            };
            let before = writes.read().unwrap();
            for n in 0..10 {
                let mut file = std::fs::File::create(folder.path().join(n.to_string())).unwrap();
                file.write_all(&[7; 4096]).unwrap();
                file.sync_data().unwrap();
            }
            assert!(writes.read().unwrap() - before >= 10);
            assert_eq!(none.read(), Some(0));
            assert!(FuaWrites::start(&[disk]).is_ok());
        }
    }
}
