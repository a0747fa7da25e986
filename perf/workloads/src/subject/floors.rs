//! The system calls by hand: each committer has a descriptor and a part of the file of its own.

use super::{Class, Family, Kind};

#[cfg(not(target_os = "linux"))]
pub(super) const KINDS: [Kind; 0] = [];

#[cfg(target_os = "linux")]
pub(super) const KINDS: [Kind; 7] = [
    kind("floor io_uring write DSYNC", |place| floors(place, Calls::UringDsync, true)),
    kind("floor io_uring write→fdatasync", |place| floors(place, Calls::UringLinked, true)),
    kind("floor pwritev2 DSYNC", |place| floors(place, Calls::DsyncWrite, true)),
    kind("floor pwrite+fdatasync", |place| floors(place, Calls::WriteThenSync, true)),
    kind("floor O_DSYNC pwrite", |place| floors(place, Calls::OpenDsync, true)),
    kind("floor page cache+fdatasync", |place| floors(place, Calls::WriteThenSync, false)),
    kind("floor mmap+msync", |place| floors(place, Calls::MapThenSync, false)),
];

#[cfg(target_os = "linux")]
use linux::{Calls, floors, kind};

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use super::super::{Open, Place, Subject};
    use super::{Class, Family, Kind};
    pub(super) use crate::floor::Calls;
    use crate::floor::{Floor, Memory};

    pub(super) const fn kind(name: &'static str, open: Open) -> Kind {
        Kind { name, family: Family::Floor, class: Class::Durable, floor: None, spins: false, open }
    }

    /// One floor a committer; the locks are never contended.
    struct Floors(Vec<Mutex<Floor>>);

    pub(super) fn floors(
        place: &Place<'_>,
        calls: Calls,
        direct: bool,
    ) -> io::Result<Box<dyn Subject>> {
        let region = place.region();
        let memory = match place.committers {
            1 => Memory::like_a_writer(place.record),
            _ => Memory::for_one(place.record),
        };
        let open = |index| {
            let from = index * region;
            Floor::open_region(
                place.path,
                calls,
                direct && place.direct,
                memory,
                from..from + region,
            )
            .map(Mutex::new)
        };
        Ok(Box::new(Floors((0..place.committers as u64).map(open).collect::<Result<_, _>>()?)))
    }

    impl Subject for Floors {
        fn commit(&self, committer: usize, record: &[u8]) -> io::Result<()> {
            let mut floor = self.0[committer].lock().unwrap_or_else(PoisonError::into_inner);
            floor.write_flush(record)
        }
    }
}
