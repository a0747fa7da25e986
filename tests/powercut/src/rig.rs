//! A real file system on the disk that can be stopped: made, mounted, and gone with the process.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::log::Log;
use crate::loopdev::LoopDevice;
use crate::medium::{FileSystem, Medium};
use crate::server::{CLAIMS, DISK, ORDERS};

/// Unmounts without waiting for those who look.
pub(crate) fn unmount(at: &Path) -> rustix::io::Result<()> {
    rustix::mount::unmount(at, UnmountFlags::empty())
}

/// Mounts of this process are its own from now on, and end with it.
pub(crate) fn leave_mount_namespace() -> anyhow::Result<()> {
    // SAFETY: mounts only; no descriptors or identities change hands.
    #[allow(unsafe_code)]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .context("a mount namespace of its own was refused: run it as root")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).context("mounts can't be made private")
}

/// This program again, in a part of its own; it does not outlive us.
pub(crate) fn part(name: &str) -> anyhow::Result<Command> {
    // By no name: the file may have been built anew meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg(name).stdin(Stdio::null());
    // SAFETY: one system call between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    Ok(command)
}

/// xfs tries a write of its own for ever on a device that is full, and a fence waits for it.
pub(crate) fn give_up_when_full(device: &Path) -> anyhow::Result<()> {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let tries = format!("/sys/fs/xfs/{name}/error/metadata/ENOSPC/max_retries");
    std::fs::write(&tries, "0").with_context(|| format!("{tries} can't be set"))
}

/// Where the disk takes orders: what is to fail.
#[derive(Clone, Debug)]
pub(crate) struct Orders(pub(crate) PathBuf);

impl Orders {
    pub(crate) fn give(&self, order: &str) -> anyhow::Result<()> {
        let file = File::options().write(true).open(&self.0);
        file.and_then(|mut file| file.write_all(order.as_bytes()))
            .with_context(|| format!("the disk refused '{order}'"))
    }
}

/// The disk, a loop device on it, and the file system on that, mounted.
#[derive(Debug)]
pub(crate) struct Rig {
    folder: PathBuf,
    server: Child,
    device: Option<LoopDevice>,
    mounted: bool,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Rig {
    pub(crate) fn new(
        medium: Medium,
        base: &Path,
        folder: &Path,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let rig_folder = folder.to_owned();
        for name in ["fuse", "mnt"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let server = part("serve")?
            .arg(base)
            .arg(folder.join("fuse"))
            .arg(folder.join("log"))
            .arg(seed.to_string())
            .spawn()
            .context("the disk did not start")?;
        let mut rig = Self { folder: rig_folder, server, device: None, mounted: false };
        let disk = rig.folder.join("fuse").join(DISK);
        let begun = Instant::now();
        while !disk.exists() {
            ensure!(rig.server.try_wait()?.is_none(), "the disk ended before it began");
            ensure!(begun.elapsed() < PATIENCE, "the disk did not come up");
            std::thread::sleep(Duration::from_millis(2));
        }
        let backing =
            File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&disk)?;
        let device =
            LoopDevice::new(&backing, true, medium.sector).context("no loop device on the disk")?;
        device.leave_requests_alone()?;
        let mount = medium.mount(device.path(), &rig.mount_point());
        rig.device = Some(device);
        mount.with_context(|| format!("{medium:?} can't be mounted"))?;
        rig.mounted = true;
        if medium.file_system == FileSystem::Xfs {
            give_up_when_full(rig.device.as_ref().context("no device any more")?.path())?;
        }
        Ok(rig)
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    pub(crate) fn claims(&self) -> PathBuf {
        self.folder.join("fuse").join(CLAIMS)
    }

    pub(crate) fn orders(&self) -> Orders {
        Orders(self.folder.join("fuse").join(ORDERS))
    }

    /// As after a restart of the machine.
    pub(crate) fn mount_again(&mut self, medium: Medium) -> anyhow::Result<()> {
        let device = self.device.as_ref().context("no device any more")?;
        unmount(&self.mount_point()).context("it can't be unmounted")?;
        self.mounted = false;
        let mount = medium.mount(device.path(), &self.mount_point());
        mount.with_context(|| format!("{medium:?} can't be mounted again"))?;
        self.mounted = true;
        Ok(())
    }

    /// Ends the recording of the disk; returns what it has seen.
    pub(crate) fn finish(mut self) -> anyhow::Result<Log> {
        self.orders().give("dump")?;
        let path = self.folder.join("log");
        let log = postcard::from_bytes(&std::fs::read(&path)?).context("the log is damaged")?;
        std::fs::remove_file(&path)?;
        if let Err(error) = self.take_down() {
            bail!("the file system can't be taken down: {error}");
        }
        Ok(log)
    }

    fn take_down(&mut self) -> rustix::io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            unmount(&self.mount_point())?;
        }
        self.device = None;
        Ok(())
    }
}

impl Drop for Rig {
    /// Whatever happened: the server goes, and with it every request that hangs.
    fn drop(&mut self) {
        let detach = UnmountFlags::DETACH;
        if std::mem::take(&mut self.mounted) {
            let _ = rustix::mount::unmount(self.mount_point(), detach);
        }
        self.device = None;
        let _ = rustix::mount::unmount(self.folder.join("fuse"), detach);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
