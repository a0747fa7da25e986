//! The block device under a file, and what the kernel counts of it
//! (Documentation/block/stat.rst, Documentation/ABI/stable/sysfs-block).

use std::fs;
use std::path::{Path, PathBuf};

/// A disk whose counters can be read. Works without root.
#[derive(Clone, Debug)]
pub struct Device {
    /// The whole disk's folder in sysfs.
    folder: PathBuf,
    /// Its name, such as `nvme0n1`.
    pub name: String,
}

/// What the kernel has counted since boot, for the whole disk and everybody on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Write requests completed (field 5).
    pub writes: u64,
    /// Sectors of 512 bytes written (field 7).
    pub sectors: u64,
    /// Flush requests completed (field 16, Linux 5.5).
    pub flushes: u64,
}

impl Counts {
    /// What has been added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            sectors: self.sectors - before.sectors,
            flushes: self.flushes - before.flushes,
        }
    }
}

impl Device {
    /// The disk that holds `path` (a file or folder that exists).
    ///
    /// # Errors
    /// Why there is none in sight: a file system in memory or over a network, a device mapper
    /// without a single disk under it, a platform without sysfs.
    pub fn under(path: &Path) -> Result<Self, String> {
        let folder = whole_disk(block_device(path)?)?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let device = Self { folder, name: name.unwrap_or_default() };
        device.counts()?; // a kernel that does not count flushes is of no use
        Ok(device)
    }

    /// The counters now.
    ///
    /// # Errors
    /// When the kernel does not say, or does not count flushes.
    pub fn counts(&self) -> Result<Counts, String> {
        let text = fs::read_to_string(self.folder.join("stat"))
            .map_err(|error| format!("the counters of {} can't be read: {error}", self.name))?;
        let fields: Vec<u64> =
            text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        match (fields.get(4), fields.get(6), fields.get(15)) {
            (Some(&writes), Some(&sectors), Some(&flushes)) => {
                Ok(Counts { writes, sectors, flushes })
            }
            _ => Err(format!(
                "the kernel does not count the flushes of {} (Linux 5.5 does)",
                self.name
            )),
        }
    }

    /// An attribute of the request queue, such as `write_cache`, `fua`, `scheduler`,
    /// `logical_block_size`; `None` if the kernel does not have it.
    pub fn queue(&self, attribute: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("queue").join(attribute)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Any other attribute of the disk, such as `device/model` or `loop/backing_file`.
    pub fn attribute(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Whether the device has a volatile cache that a fence has to flush. `None`: unknown.
    pub fn has_volatile_cache(&self) -> Option<bool> {
        self.queue("write_cache").map(|cache| cache == "write back")
    }
}

/// From a partition to its disk, and from a mapped device to the one disk under it, whose
/// flushes are counted; those of a mapped device are not.
fn whole_disk(folder: PathBuf) -> Result<PathBuf, String> {
    if folder.join("partition").exists() {
        return Ok(folder.parent().map(Path::to_owned).unwrap_or(folder));
    }
    let Ok(slaves) = fs::read_dir(folder.join("slaves")) else { return Ok(folder) };
    let slaves: Vec<PathBuf> = slaves.flatten().map(|entry| entry.path()).collect();
    match slaves.as_slice() {
        [] => Ok(folder),
        [one] => whole_disk(fs::canonicalize(one).map_err(|error| error.to_string())?),
        many => Err(format!(
            "{} lies on {} devices, and which of them a flush went to is not counted",
            folder.display(),
            many.len()
        )),
    }
}

/// The folder in sysfs of the block device (or partition) that holds the path.
#[cfg(target_os = "linux")]
fn block_device(path: &Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;

    use crate::Mount;

    let of_number = |number: u64| {
        // The kernel's encoding (makedev(3)).
        let major = (number >> 8) & 0xfff | (number >> 32) & !0xfff;
        let minor = number & 0xff | (number >> 12) & !0xff;
        fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
    };
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if let Some(folder) = of_number(metadata.dev()) {
        return Ok(folder);
    }
    // btrfs and overlay number their files otherwise: the mount says what they lie on.
    let mount = Mount::of(path)?;
    if mount.file_system == "overlay"
        && let Some(upper) = mount.option("upperdir")
        && Path::new(upper).exists()
    {
        return block_device(Path::new(upper));
    }
    let source = mount.source.starts_with("/dev/").then(|| fs::metadata(&mount.source).ok());
    source.flatten().and_then(|source| of_number(source.rdev())).ok_or_else(|| {
        format!(
            "{} is {}, on no disk of this machine in sight",
            mount.point.display(),
            mount.file_system
        )
    })
}

#[cfg(not(target_os = "linux"))]
fn block_device(_path: &Path) -> Result<PathBuf, String> {
    Err("device counters are read from sysfs, which exists on Linux only".into())
}
