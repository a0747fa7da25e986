//! Where a measurement was made: what a reader has to know to compare it with another.

use std::path::Path;

use serde::{Deserialize, Serialize};
use writeflush_workloads::{Device, Mount};

/// Facts about the machine and the place of the files; `None` where they could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) directory: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) file_system: Option<String>,
    pub(crate) mount_point: Option<String>,
    pub(crate) mount_options: Option<String>,
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
    pub(crate) scheduler: Option<String>,
    pub(crate) rotational: Option<String>,
    pub(crate) logical_block_bytes: Option<String>,
    /// What direct I/O has to be aligned to in the file (statx, STATX_DIOALIGN); 0: refused.
    pub(crate) direct_io_alignment: Option<u32>,
    pub(crate) rustc: String,
    pub(crate) writeflush: String,
    /// What could not be seen, and why.
    pub(crate) unseen: Vec<String>,
}

impl Environment {
    /// Looks around; needs no rights.
    pub(crate) fn of(directory: &Path) -> Self {
        let mut found = Self {
            directory: directory.display().to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            rustc: env!("WRITEFLUSH_RUSTC").into(),
            writeflush: env!("CARGO_PKG_VERSION").into(),
            ..Self::default()
        };
        match Device::under(directory) {
            Ok(device) => found.look_at(&device),
            Err(reason) => found.unseen.push(format!("device: {reason}")),
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

    fn look_at(&mut self, device: &Device) {
        self.device = Some(device.name.clone());
        self.device_model = device.attribute("device/model").or(device.attribute("device/name"));
        self.backing_file = device.attribute("loop/backing_file");
        let backing = self.backing_file.as_deref().and_then(|file| Mount::of(Path::new(file)).ok());
        self.backing_file_system = backing.map(|mount| mount.file_system);
        self.write_cache = device.queue("write_cache");
        self.fua = device.queue("fua");
        self.scheduler = device.queue("scheduler");
        self.rotational = device.queue("rotational");
        self.logical_block_bytes = device.queue("logical_block_size");
    }

    /// Whether data lives in memory alone.
    pub(crate) fn in_memory(&self) -> bool {
        [&self.file_system, &self.backing_file_system]
            .iter()
            .any(|name| matches!(name.as_deref(), Some("tmpfs" | "ramfs")))
    }

    /// Each fact with its name, for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not seen".into());
        let mut lines = vec![
            ("directory", self.directory.clone()),
            ("kernel", text(&self.kernel)),
            ("processor", format!("{} × {}", self.cores, text(&self.cpu))),
            ("file system", text(&self.file_system)),
            ("mounted at", text(&self.mount_point)),
            ("mount options", text(&self.mount_options)),
            ("device", text(&self.device)),
        ];
        let optional = [
            ("device model", &self.device_model),
            ("lies on file", &self.backing_file),
            ("which is on", &self.backing_file_system),
            ("write cache", &self.write_cache),
            ("FUA", &self.fua),
            ("scheduler", &self.scheduler),
            ("rotational", &self.rotational),
            ("logical block", &self.logical_block_bytes),
        ];
        lines.extend(
            optional
                .map(|(name, value)| (name, value.clone()))
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (name, value))),
        );
        let alignment = match self.direct_io_alignment {
            Some(0) => "no direct I/O here".into(),
            Some(bytes) => format!("to {bytes} bytes"),
            None => "not said by the kernel".into(),
        };
        lines.push(("direct I/O aligned", alignment));
        lines.push(("built by", self.rustc.clone()));
        lines.push(("writeflush", self.writeflush.clone()));
        lines.extend(self.unseen.iter().map(|reason| ("not seen", reason.clone())));
        lines
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use procfs::Current;
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::Environment;

    pub(super) fn look(found: &mut Environment, directory: &Path) {
        found.kernel = procfs::sys::kernel::Version::current()
            .ok()
            .map(|v| format!("Linux {}.{}.{}", v.major, v.minor, v.patch));
        found.cpu = procfs::CpuInfo::current()
            .ok()
            .and_then(|info| info.model_name(0).map(ToOwned::to_owned));
        found.direct_io_alignment = alignment(directory);
    }

    /// Asked of a file, since a directory has none.
    fn alignment(directory: &Path) -> Option<u32> {
        let file = tempfile::NamedTempFile::new_in(directory).ok()?;
        let flags = StatxFlags::from_bits_retain(STATX_DIOALIGN);
        let answer = statx(CWD, file.path(), AtFlags::empty(), flags).ok()?;
        (answer.stx_mask & STATX_DIOALIGN != 0).then_some(answer.stx_dio_offset_align)
    }

    const STATX_DIOALIGN: u32 = 0x2000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_described_and_reads_back() {
        let here = Environment::of(&writeflush_workloads::scratch_dir());
        if cfg!(target_os = "linux") {
            assert!(here.kernel.as_deref().is_some_and(|kernel| kernel.starts_with("Linux")));
            assert!(here.file_system.is_some() && here.mount_options.is_some());
        }
        let text = serde_json::to_string(&here).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), here);
        assert!(here.lines().iter().any(|(name, _)| *name == "file system"));
    }

    #[test]
    fn a_place_that_is_not_there_is_no_panic() {
        let nowhere = Environment::of(Path::new("/no/such/place"));
        assert_eq!(nowhere.device, None);
        assert!(!nowhere.unseen.is_empty());
    }
}
