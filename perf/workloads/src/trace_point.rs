//! The kernel's trace points, by number.

use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The number of one of the kernel's trace points, such as `block/block_rq_issue`, where we may
/// see it: that takes root, or a tracefs that can be read. Blocks for a moment where tracefs is
/// not mounted.
pub fn trace_point(name: &'static str) -> Option<u64> {
    let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let seen = mounted.iter().find_map(|root| read(Path::new(root), name));
    seen.or_else(|| mount_and_read(name))
}

fn read(root: &Path, name: &str) -> Option<u64> {
    let path = root.join("events").join(name).join("id");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Where tracefs is not mounted: mounts it for a moment where nobody else sees it, in a thread
/// that has its mounts to itself and takes them with it.
fn mount_and_read(name: &'static str) -> Option<u64> {
    std::thread::spawn(move || {
        let folder = tempfile::tempdir().ok()?;
        private_mounts()?;
        mount("none", folder.path(), "tracefs", MountFlags::empty(), None).ok()?;
        let id = read(folder.path(), name);
        unmount(folder.path(), UnmountFlags::DETACH).ok()?;
        id
    })
    .join()
    .ok()?
}

#[allow(unsafe_code)]
fn private_mounts() -> Option<()> {
    // SAFETY: it takes nothing away from other threads: descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.ok()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).ok()
}
