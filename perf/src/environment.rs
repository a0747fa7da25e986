//! Where a measurement was made: what a reader has to know to compare it with another.

use std::path::Path;

use serde::{Deserialize, Serialize};
use writeflush_workloads::{Device, Disk, End, Mount};

use crate::output::digits;

/// Facts about the machine and the place of the files; `None` where they could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    pub(crate) directory: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Option<String>,
    /// Those that this process may use.
    pub(crate) cores: usize,
    /// One-minute load averages.
    pub(crate) load_start: Option<f64>,
    pub(crate) load_end: Option<f64>,
    /// Of the time of all processors, what the host of this machine gave to others meanwhile.
    pub(crate) steal_percent: Option<f64>,
    pub(crate) file_system: Option<String>,
    pub(crate) mount_point: Option<String>,
    pub(crate) mount_options: Option<String>,
    /// What is passed on the way from the file system to the last device in sight.
    pub(crate) way: Vec<String>,
    /// The disk that the file system lies on (several, where it lies on several).
    pub(crate) device: Option<String>,
    pub(crate) device_model: Option<String>,
    /// The file that a loop device lies on.
    pub(crate) backing_file: Option<String>,
    /// The file system of that file.
    pub(crate) backing_file_system: Option<String>,
    /// `write back`: fences have to flush it.
    pub(crate) write_cache: Option<String>,
    /// `1`: a write can carry its own fence to the device.
    pub(crate) fua: Option<String>,
    /// Every disk on the way.
    pub(crate) disks: Vec<Cache>,
    /// What keeps the data in memory, if it ends there.
    pub(crate) in_memory: Option<String>,
    /// Why the end of the way can't be seen, if it can't.
    pub(crate) out_of_sight: Option<String>,
    pub(crate) scheduler: Option<String>,
    pub(crate) rotational: Option<String>,
    pub(crate) logical_block_bytes: Option<String>,
    /// What direct I/O has to be aligned to in the file (statx, STATX_DIOALIGN); 0: refused.
    pub(crate) direct_io_alignment: Option<u32>,
    /// And in memory.
    pub(crate) direct_io_memory_alignment: Option<u32>,
    pub(crate) rustc: String,
    pub(crate) writeflush: String,
    /// The commit that the tool was built from; `+` if files were changed since.
    pub(crate) revision: Option<String>,
    /// What could not be seen, and why.
    pub(crate) unseen: Vec<String>,
    /// At the start.
    #[serde(skip)]
    pub(crate) ticks: Option<Ticks>,
}

/// The time of all processors since boot, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// What the host of this machine gave to others.
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// `None` where the kernel doesn't say.
    pub(crate) fn now() -> Option<Self> {
        #[cfg(target_os = "linux")]
        return linux::ticks();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Of the time since then, what was stolen, in percent. As exact as it is told, so that it
    /// reads back the same.
    pub(crate) fn stolen_percent_since(self, before: Self) -> Option<f64> {
        let stolen = self.stolen.checked_sub(before.stolen)?;
        let all = self.all.checked_sub(before.all)?;
        (all > 0).then(|| (stolen as f64 / all as f64 * 1e4).round() / 1e2)
    }
}

/// A disk on the way, and what a fence has to flush there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cache {
    pub(crate) name: String,
    /// Nothing further down is in sight.
    pub(crate) last: bool,
    pub(crate) write_cache: Option<String>,
    pub(crate) fua: Option<String>,
    /// The drive itself says that it honours FUA.
    #[serde(default)]
    pub(crate) fua_announced: bool,
}

/// From this load for each processor on, and from this part of stolen time on, a run is noisy.
const BUSY_LOAD: f64 = 0.5;
const BUSY_STEAL_PERCENT: f64 = 2.0;

impl Environment {
    /// Looks around; needs no rights. Time counts from here for what [`end`](Self::end) adds.
    pub(crate) fn of(directory: &Path) -> Self {
        let mut found = Self {
            directory: directory.display().to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            rustc: env!("WRITEFLUSH_RUSTC").into(),
            writeflush: env!("CARGO_PKG_VERSION").into(),
            revision: option_env!("WRITEFLUSH_REVISION").map(ToOwned::to_owned),
            ..Self::default()
        };
        match Device::under(directory) {
            Ok(device) => found.look_at(device),
            Err(reason) => {
                found.unseen.push(format!("device: {reason}"));
                found.out_of_sight = Some(reason);
            }
        }
        match Mount::of(directory) {
            Ok(mount) => {
                found.file_system = Some(mount.file_system);
                found.mount_point = Some(mount.point.display().to_string());
                found.mount_options = Some(mount.options.join(","));
            }
            Err(reason) => found.unseen.push(format!("mount: {reason}")),
        }
        #[cfg(target_os = "linux")]
        linux::look(&mut found, directory);
        found
    }

    /// What only the end of a measurement shows.
    pub(crate) fn end(&mut self) {
        #[cfg(target_os = "linux")]
        linux::look_back(self);
    }

    fn look_at(&mut self, device: Device) {
        if let Err(reason) = device.counts() {
            self.unseen.push(format!("flushes: {reason}"));
        }
        let first: Vec<&Disk> = device.disks.iter().filter(|disk| disk.first).collect();
        if let Some(disk) = first.first() {
            let names: Vec<&str> = first.iter().map(|disk| disk.name.as_str()).collect();
            self.device = Some(names.join(" + "));
            self.device_model = disk.attribute("device/model").or(disk.attribute("device/name"));
            self.backing_file = disk.attribute("loop/backing_file");
            self.write_cache = disk.queue("write_cache");
            self.fua = disk.queue("fua");
            self.scheduler = disk.queue("scheduler");
            self.rotational = disk.queue("rotational");
            self.logical_block_bytes = disk.queue("logical_block_size");
        }
        let backing = self.backing_file.as_deref().and_then(|file| Mount::of(Path::new(file)).ok());
        self.backing_file_system = backing.map(|mount| mount.file_system);
        self.disks = device.disks.iter().map(Cache::of).collect();
        self.way = device.way;
        match device.end {
            End::Disks => {}
            End::Memory(name) => self.in_memory = Some(name),
            End::Unseen(reason) => {
                self.unseen.push(format!("where fences end: {reason}"));
                self.out_of_sight = Some(reason);
            }
        }
    }

    /// Why figures of this run are to be read with care, if they are.
    pub(crate) fn noise(&self) -> Option<String> {
        let busy = self.load_start.filter(|load| *load >= BUSY_LOAD * self.cores as f64);
        let stolen = self.steal_percent.filter(|percent| *percent >= BUSY_STEAL_PERCENT);
        let busy = busy.map(|load| {
            format!("other programs were at work at the start (load {})", digits(load))
        });
        let stolen =
            stolen.map(|percent| format!("the host took {} % of the time", digits(percent)));
        let both: Vec<String> = busy.into_iter().chain(stolen).collect();
        (!both.is_empty()).then(|| format!("{}: take the figures with care", both.join("; ")))
    }

    /// Each fact with its name, for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not seen".into());
        let mut lines = vec![
            ("directory", self.directory.clone()),
            ("kernel", text(&self.kernel)),
            ("processor", format!("{} × {}", self.cores, text(&self.cpu))),
            ("load", self.load()),
        ];
        lines.extend(self.noise().map(|noise| ("noisy run", noise)));
        lines.extend([
            ("file system", text(&self.file_system)),
            ("mounted at", text(&self.mount_point)),
            ("mount options", text(&self.mount_options)),
        ]);
        lines.extend((!self.way.is_empty()).then(|| ("lies on", self.way.join(" → "))));
        let why = match &self.device {
            Some(name) => format!("not seen (the kernel does not show it of {name})"),
            None => "not seen (no disk is in sight)".into(),
        };
        let of_device = |value: &Option<String>| value.clone().unwrap_or_else(|| why.clone());
        lines.push(("device", self.device.clone().unwrap_or_else(|| why.clone())));
        lines.extend(self.backing_file.clone().map(|file| ("lies on file", file)));
        lines.extend(self.backing_file_system.clone().map(|name| ("which is on", name)));
        lines.extend([
            ("device model", of_device(&self.device_model)),
            ("write cache", of_device(&self.write_cache)),
            ("FUA", of_device(&self.fua)),
            ("power-loss protection", self.power_loss_protection()),
            ("scheduler", of_device(&self.scheduler)),
            ("rotational", of_device(&self.rotational)),
            ("logical block", of_device(&self.logical_block_bytes)),
        ]);
        let below =
            self.disks.iter().filter(|disk| disk.last && Some(&disk.name) != self.device.as_ref());
        lines.extend(below.map(|disk| {
            let cache = disk.write_cache.as_deref().unwrap_or("write cache not seen");
            let fua = disk.fua.as_deref().unwrap_or("not seen");
            ("fences end at", format!("{} ({cache}, FUA {fua})", disk.name))
        }));
        lines.push(("direct I/O aligned", self.alignment()));
        lines.push(("built by", self.rustc.clone()));
        let revision = self.revision.as_ref().map(|commit| format!(" ({commit})"));
        lines.push(("writeflush", self.writeflush.clone() + &revision.unwrap_or_default()));
        lines.extend(self.unseen.iter().map(|reason| ("not seen", reason.clone())));
        lines
    }

    /// What the system shows of it: nothing but that a drive has no cache to lose.
    fn power_loss_protection(&self) -> String {
        let last: Vec<&Cache> = self.disks.iter().filter(|disk| disk.last).collect();
        let through = |disk: &&Cache| disk.write_cache.as_deref() == Some("write through");
        if !last.is_empty() && last.iter().all(through) {
            "nothing to lose: the drive says that it has no volatile cache".into()
        } else {
            "not seen (no drive tells the system of its capacitors: look at its data sheet)".into()
        }
    }

    fn load(&self) -> String {
        let figure = |value: Option<f64>| value.map_or("not seen".into(), digits);
        let stolen = self.steal_percent.map(|percent| format!("; {} % stolen", digits(percent)));
        let (start, end) = (figure(self.load_start), figure(self.load_end));
        format!("{start} at the start, {end} at the end{}", stolen.unwrap_or_default())
    }

    fn alignment(&self) -> String {
        match (self.direct_io_alignment, self.direct_io_memory_alignment) {
            (Some(0), _) => "no direct I/O here".into(),
            (Some(file), Some(memory)) => {
                format!("to {file} bytes in the file, {memory} in memory")
            }
            (Some(file), None) => format!("to {file} bytes in the file"),
            (None, _) => "not seen (the kernel does not say; Linux 6.1 does)".into(),
        }
    }
}

impl Cache {
    fn of(disk: &Disk) -> Self {
        Self {
            name: disk.name.clone(),
            last: disk.last,
            write_cache: disk.queue("write_cache"),
            fua: disk.queue("fua"),
            fua_announced: disk.announces_fua(),
        }
    }

    /// Whether a fence may lie in a write to it, and with that its cache be left as it is.
    pub(crate) fn takes_fua(&self) -> bool {
        self.fua.as_deref() == Some("1") && self.write_cache.as_deref() != Some("write through")
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use procfs::{Current, CurrentSI};
    use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

    use super::{Environment, Ticks};

    pub(super) fn look(found: &mut Environment, directory: &Path) {
        found.kernel = procfs::sys::kernel::Version::current()
            .ok()
            .map(|v| format!("Linux {}.{}.{}", v.major, v.minor, v.patch));
        found.cpu = procfs::CpuInfo::current()
            .ok()
            .and_then(|info| info.model_name(0).map(ToOwned::to_owned));
        found.load_start = load();
        found.ticks = ticks();
        if let Some(answer) = alignment(directory) {
            found.direct_io_alignment = Some(answer.stx_dio_offset_align);
            found.direct_io_memory_alignment = Some(answer.stx_dio_mem_align);
        }
    }

    pub(super) fn look_back(found: &mut Environment) {
        found.load_end = load();
        let ticks = found.ticks.zip(ticks());
        found.steal_percent = ticks.and_then(|(before, now)| now.stolen_percent_since(before));
    }

    fn hundredths(value: f64) -> f64 {
        (value * 100.0).round() / 100.0
    }

    fn load() -> Option<f64> {
        procfs::LoadAverage::current().ok().map(|load| hundredths(load.one.into()))
    }

    /// Stolen, and all but those of guests, which count as user time too (proc_stat(5)).
    pub(super) fn ticks() -> Option<Ticks> {
        let all = procfs::KernelStats::current().ok()?.total;
        let parts = [all.iowait, all.irq, all.softirq, all.steal];
        let sum = all.user + all.nice + all.system + all.idle;
        let all_parts = sum + parts.into_iter().flatten().sum::<u64>();
        Some(Ticks { stolen: all.steal?, all: all_parts })
    }

    /// Asked of a file, since a directory has none.
    fn alignment(directory: &Path) -> Option<Statx> {
        let file = tempfile::NamedTempFile::new_in(directory).ok()?;
        let flags = StatxFlags::from_bits_retain(STATX_DIOALIGN);
        let answer = statx(CWD, file.path(), AtFlags::empty(), flags).ok()?;
        (answer.stx_mask & STATX_DIOALIGN != 0).then_some(answer)
    }

    const STATX_DIOALIGN: u32 = 0x2000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_described_and_reads_back() {
        let mut here = Environment::of(&writeflush_workloads::scratch_dir());
        here.end();
        if cfg!(target_os = "linux") {
            assert!(here.kernel.as_deref().is_some_and(|kernel| kernel.starts_with("Linux")));
            assert!(here.file_system.is_some() && here.mount_options.is_some());
            assert!(here.load_start.is_some() && here.load_end.is_some());
        }
        here.ticks = None;
        let text = serde_json::to_string(&here).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), here);
        assert!(here.lines().iter().any(|(name, _)| *name == "file system"));
    }

    #[test]
    fn what_could_not_be_seen_has_a_line_that_says_so() {
        let line = |place: &Environment, name: &str| {
            place.lines().into_iter().find(|line| line.0 == name).map(|line| line.1)
        };
        let device = Some("vda".to_owned());
        let place = Environment { device, fua: Some("0".into()), ..Environment::default() };
        assert_eq!(line(&place, "FUA").as_deref(), Some("0"));
        let cache = line(&place, "write cache").unwrap();
        assert!(cache.contains("not seen") && cache.contains("vda"), "{cache}");
        let cache = line(&Environment::default(), "write cache").unwrap();
        assert!(cache.contains("no disk"), "{cache}");
    }

    #[test]
    fn a_noisy_run_says_so() {
        let quiet = Environment {
            cores: 2,
            load_start: Some(0.4),
            steal_percent: Some(0.1),
            ..Environment::default()
        };
        assert_eq!(quiet.noise(), None);
        let busy = Environment { load_start: Some(1.5), ..quiet.clone() };
        assert!(busy.noise().unwrap().contains("load 1.50"));
        let stolen = Environment { steal_percent: Some(7.0), ..quiet };
        assert!(
            stolen.lines().iter().any(|(name, line)| *name == "noisy run" && line.contains('7'))
        );
    }

    #[test]
    fn a_place_that_is_not_there_is_no_panic() {
        let nowhere = Environment::of(Path::new("/no/such/place"));
        assert_eq!(nowhere.device, None);
        assert!(!nowhere.unseen.is_empty());
    }
}
