//! One disk in sysfs.

use std::fs;
use std::path::PathBuf;

/// A whole disk: what the file system lies on, or something below.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its folder in sysfs.
    pub(super) folder: PathBuf,
    /// Its name, such as `nvme0n1`.
    pub name: String,
    /// Whether the file system of the path lies on it (and not on a file further down).
    pub first: bool,
    /// Whether nothing further down is in sight.
    pub last: bool,
}

impl Disk {
    /// An attribute of the request queue, such as `write_cache`, `fua`, `scheduler`,
    /// `logical_block_size`; `None` if the kernel does not show it.
    pub fn queue(&self, attribute: &str) -> Option<String> {
        self.attribute(&format!("queue/{attribute}"))
    }

    /// Any other attribute of the disk, such as `device/model` or `loop/backing_file`.
    pub fn attribute(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Whether a fence that ends here leaves nothing to flush: no cache that a power cut empties.
    pub fn writes_through(&self) -> bool {
        self.queue("write_cache").is_some_and(|cache| cache == "write through")
    }

    /// Whether the kernel may send a write that carries its own fence (FUA) to it.
    pub fn takes_fua(&self) -> bool {
        self.queue("fua").is_some_and(|fua| fua == "1")
    }

    /// Whether the drive itself says that it honours FUA: a SCSI disk does in its mode page
    /// (DPOFUA). Of NVMe the kernel takes it from the standard; ATA drives are known to ignore it,
    /// and bridges of USB to announce what they don't have.
    pub fn announces_fua(&self) -> bool {
        let ata = self.attribute("device/vendor").is_none_or(|vendor| vendor == "ATA");
        let mut parts = self.folder.components().map(|part| part.as_os_str().to_string_lossy());
        let bridged = parts.any(|part| part.starts_with("usb") || part.starts_with("ata"));
        self.takes_fua() && self.name.starts_with("sd") && !ata && !bridged
    }
}
