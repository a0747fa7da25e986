//! What the kernel counts of every disk on the way.

use super::{Device, Disk, End};

/// The counters of all disks at one moment: since boot, and for everybody on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    disks: Vec<OfDisk>,
    fua_writes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OfDisk {
    /// Whether writes are counted here: right under the file system.
    first: bool,
    /// Whether a fence has to be seen here.
    fenced: bool,
    counts: Counts,
}

/// What was added between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Write requests completed (field 5), of the disks right under the file system.
    pub writes: u64,
    /// Sectors of 512 bytes written (field 7), of the same disks.
    pub sectors: u64,
    /// Flush requests completed (field 16, Linux 5.5): the fewest of any disk on the way that a
    /// fence has to pass.
    pub flushes: u64,
    /// Writes with FUA started, of all disks on the way; `None` where they are not counted
    /// ([`Device::count_fua`]).
    pub fua_writes: Option<u64>,
}

impl Counters {
    pub(super) fn of(device: &Device) -> Result<Self, String> {
        let of_disk = |disk: &Disk| -> Result<OfDisk, String> {
            // The block layer sends no flush to a disk without a volatile cache; one on the way
            // (a loop device) that claims to have none stops the fence.
            let fenced = !(disk.last && disk.writes_through());
            Ok(OfDisk { first: disk.first, fenced, counts: read(disk)? })
        };
        let all = device.disks.iter().map(of_disk).collect::<Result<Vec<_>, _>>()?;
        let fua = device.fua.as_ref().and_then(|fua| fua.lock().ok()?.read());
        match (all.is_empty(), &device.end) {
            (false, _) => Ok(Self { disks: all, fua_writes: fua }),
            (true, End::Memory(name)) => Err(format!("{name} is memory, and has no counters")),
            (true, End::Unseen(reason)) => Err(reason.clone()),
            (true, End::Disks) => Err("no disk is in sight".into()),
        }
    }

    /// What has been added since `before`, read from the same device.
    pub fn since(&self, before: &Self) -> Counts {
        let added: Vec<OfDisk> = self
            .disks
            .iter()
            .zip(&before.disks)
            .map(|(now, before)| OfDisk { counts: now.counts.since(before.counts), ..*now })
            .collect();
        let first = || added.iter().filter(|disk| disk.first).map(|disk| disk.counts);
        let fewest = |of: fn(&OfDisk) -> bool| {
            added.iter().filter(|disk| of(disk)).map(|disk| disk.counts.flushes).min()
        };
        Counts {
            writes: first().map(|counts| counts.writes).sum(),
            sectors: first().map(|counts| counts.sectors).sum(),
            flushes: fewest(|disk| disk.fenced).or(fewest(|_| true)).unwrap_or_default(),
            fua_writes: self.fua_writes.zip(before.fua_writes).map(|(now, then)| now - then),
        }
    }
}

impl Counts {
    /// A device that came anew has counters that begin anew.
    fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(before.writes),
            sectors: self.sectors.saturating_sub(before.sectors),
            flushes: self.flushes.saturating_sub(before.flushes),
            fua_writes: None,
        }
    }
}

fn read(disk: &Disk) -> Result<Counts, String> {
    let text = disk
        .attribute("stat")
        .ok_or_else(|| format!("the counters of {} can't be read", disk.name))?;
    let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    match (fields.get(4), fields.get(6), fields.get(15)) {
        (Some(&writes), Some(&sectors), Some(&flushes)) => {
            Ok(Counts { writes, sectors, flushes, fua_writes: None })
        }
        _ => {
            Err(format!("the kernel does not count the flushes of {} (Linux 5.5 does)", disk.name))
        }
    }
}
