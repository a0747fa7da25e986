//! What a recording lies on: a file system, how it is mounted, and the sectors below it.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use crate::table::word;

/// The file systems that are tried.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

/// How it is mounted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mount {
    Default,
    /// ext4: data goes through the journal (there is no direct I/O then).
    DataJournal,
    /// ext4: data may follow the metadata that names it.
    DataWriteback,
    /// btrfs: overwrites in place, no checksums of data.
    NoDataCow,
    /// btrfs: compressed.
    Compress,
    /// btrfs: a commit writes all dirty data first.
    FlushOnCommit,
}

/// A file system on a device with sectors of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Medium {
    pub(crate) file_system: FileSystem,
    pub(crate) mount: Mount,
    pub(crate) sector: u32,
}

const SECTORS: [u32; 2] = [512, 4096];
const BLOCK: u64 = 4096;

impl FileSystem {
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn mounts(self) -> &'static [Mount] {
        match self {
            Self::Ext4 => &[Mount::Default, Mount::DataJournal, Mount::DataWriteback],
            Self::Xfs => &[Mount::Default],
            Self::Btrfs => {
                &[Mount::Default, Mount::NoDataCow, Mount::Compress, Mount::FlushOnCommit]
            }
        }
    }

    /// Every medium of it, those next to each other as different as can be.
    pub(crate) fn media(self) -> Vec<Medium> {
        let on = |sector| {
            let of = move |mount: &Mount| Medium { file_system: self, mount: *mount, sector };
            self.mounts().iter().map(of)
        };
        SECTORS.into_iter().flat_map(on).collect()
    }

    fn size(self) -> u64 {
        if self == Self::Btrfs { 128 << 20 } else { 64 << 20 }
    }

    fn make(self) -> &'static str {
        match self {
            Self::Ext4 => {
                "mkfs.ext4 -q -F -b 4096 -J size=4 \
                 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0"
            }
            Self::Xfs => "mkfs.xfs -q -K --unsupported -d agcount=1 -s size=",
            Self::Btrfs => "mkfs.btrfs -q -K -m single -d single",
        }
    }

    /// Blocks that a device writes whole: the superblocks. A torn one makes images that can't be
    /// mounted whoever wrote the files: btrfs has several, ext4's is in the first block and goes
    /// past the journal when the disk fails.
    fn is_whole(self, block: u64) -> bool {
        match self {
            Self::Ext4 => block == 0,
            Self::Xfs => false,
            Self::Btrfs => [64 << 10, 64 << 20].contains(&(block * BLOCK)),
        }
    }
}

impl Medium {
    /// The usual one.
    pub(crate) fn plain(file_system: FileSystem) -> Self {
        Self { file_system, mount: Mount::Default, sector: SECTORS[0] }
    }

    /// Bytes of its image.
    pub(crate) fn size(self) -> u64 {
        self.file_system.size()
    }

    pub(crate) fn in_words(self) -> String {
        format!("{} {} {}", self.file_system.name(), word(&self.mount), self.sector)
    }

    /// What of a write at `at` a device writes whole.
    pub(crate) fn sector_at(self, at: u64) -> usize {
        match self.file_system.is_whole(at / BLOCK) {
            true => BLOCK as usize,
            false => self.sector as usize,
        }
    }

    /// Whether files can be written past the page cache: ext4 refuses what its journal has to see.
    pub(crate) fn takes_direct(self) -> bool {
        self.mount != Mount::DataJournal
    }

    /// Options of a mount; clones of one xfs share its identity.
    fn options(self) -> Option<&'static CStr> {
        match self.mount {
            Mount::Default => (self.file_system == FileSystem::Xfs).then_some(c"nouuid"),
            Mount::DataJournal => Some(c"data=journal"),
            Mount::DataWriteback => Some(c"data=writeback"),
            Mount::NoDataCow => Some(c"nodatacow"),
            Mount::Compress => Some(c"compress=zstd"),
            Mount::FlushOnCommit => Some(c"flushoncommit"),
        }
    }

    pub(crate) fn mount(self, device: &Path, at: &Path) -> rustix::io::Result<()> {
        let name = self.file_system.name();
        rustix::mount::mount(device, at, name, MountFlags::NOATIME, self.options())
    }

    /// An image with an empty file system.
    pub(crate) fn make(self, folder: &Path) -> anyhow::Result<PathBuf> {
        let image = folder.join(format!("{}-{}.img", self.file_system.name(), self.sector));
        if image.exists() {
            return Ok(image);
        }
        std::fs::File::create(&image)?.set_len(self.file_system.size())?;
        let mut command = self.file_system.make().to_owned();
        if self.file_system == FileSystem::Xfs {
            command += &self.sector.to_string();
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = Command::new(words[0])
            .args(&words[1..])
            .arg(&image)
            .output()
            .with_context(|| format!("{} is not there: install it", words[0]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} failed: {said}", words[0]);
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_tears_at_its_sectors_but_no_superblock() {
        let [btrfs, ext4] = [FileSystem::Btrfs, FileSystem::Ext4].map(Medium::plain);
        assert_eq!((btrfs.sector_at(64 << 10), btrfs.sector_at(68 << 10)), (4096, 512));
        assert_eq!((ext4.sector_at(1024), ext4.sector_at(4096)), (4096, 512));
        let large = FileSystem::Xfs.media()[1];
        assert_eq!((large.sector, large.sector_at(0)), (4096, 4096));
    }
}
