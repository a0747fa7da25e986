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
        let number = device_number(path)?;
        let folder = fs::canonicalize(format!("/sys/dev/block/{}:{}", number.0, number.1));
        let folder = folder.map_err(|_| {
            format!(
                "device {}:{} is no block device: the file system is not on a disk of this machine",
                number.0, number.1
            )
        })?;
        let folder = if folder.join("partition").exists() {
            folder.parent().map(Path::to_owned).unwrap_or(folder)
        } else {
            folder
        };
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

#[cfg(unix)]
fn device_number(path: &Path) -> Result<(u64, u64), String> {
    use std::os::unix::fs::MetadataExt;
    let number = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.dev();
    // The kernel's encoding (makedev(3)).
    Ok(((number >> 8) & 0xfff | (number >> 32) & !0xfff, number & 0xff | (number >> 12) & !0xff))
}

#[cfg(not(unix))]
fn device_number(_path: &Path) -> Result<(u64, u64), String> {
    Err("device counters are read from sysfs, which exists on Linux only".into())
}
