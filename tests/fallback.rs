//! What a machine may refuse (io_uring, direct I/O, locked memory), and that it is never refused
//! in silence.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::os::unix::process::CommandExt;
use std::path::Path;

use common::{
    Config, Mount, SMALL, assert_file, bytes, child_succeeds, child_task, directory,
    has_own_mounts, skip, watched,
};
use seccomp::refuse;
use writeflush::{
    Backend, BackendChoice, Direct, Drive, Error, Medium, Operation, Options, Writer,
};

const DRIVES: [Drive; 3] = [Drive::Caller, Drive::Thread, Drive::Poll];

/// Writes, patches, flushes and closes; then compares the file.
fn works(mut writer: Writer, path: &Path, label: &str) {
    let mut model = bytes(1, 5 * SMALL + 77);
    assert_eq!(writer.write(&model).unwrap().position(), Some(0));
    assert_eq!(writer.control().flush().unwrap(), model.len() as u64);
    writer.patch(100, &bytes(2, 5000)).unwrap();
    model[100..5100].copy_from_slice(&bytes(2, 5000));
    model.extend(bytes(3, 10));
    assert_eq!(writer.write_flush(&bytes(3, 10)).unwrap(), model.len() as u64);
    writer.close().unwrap();
    assert_file(path, &model, &label);
}

/// From now on `io_uring_setup` fails with EPERM in this process, as under Docker's default
/// profile.
fn refuse_io_uring() -> std::io::Result<()> {
    refuse(libc::SYS_io_uring_setup, libc::EPERM)
}

#[test]
fn io_uring_refused() {
    if child_task().is_none() {
        child_succeeds("io_uring_refused", "filtered", |command| {
            // SAFETY: the closure allocates nothing and takes no lock.
            unsafe { command.pre_exec(refuse_io_uring) };
        });
        return;
    }
    for drive in DRIVES {
        watched(&format!("{drive:?}"), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let options = Options::new().buffer_size(SMALL).drive(drive);
            let writer = options.create(&path).unwrap();
            assert_eq!(writer.backend(), Backend::Sync);
            let said = writer.fallbacks().join("; ");
            assert!(said.contains("io_uring") && said.contains("not permitted"), "{said}");
            works(writer, &path, "Auto without io_uring");

            // Asked for by name it is an error, and nothing is lost or left by it.
            let options = options.backend(BackendChoice::Uring);
            let before = std::fs::read(&path).unwrap();
            let fresh = directory.path().join("fresh");
            for error in [
                options.open(&path).unwrap_err(),
                options.append(&path).unwrap_err(),
                options.create_new(&fresh).unwrap_err(),
            ] {
                let operation = Operation::Start;
                assert!(matches!(error, Error::Io { operation: found, .. } if found == operation));
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            }
            assert_file(&path, &before, &"after refusals");

            let sync = options.backend(BackendChoice::Sync).create(&path).unwrap();
            assert!(sync.fallbacks().is_empty(), "Sync was asked for: {:?}", sync.fallbacks());
        });
    }
}

/// An open that fails leaves no new file and empties no old one.
#[test]
fn a_refused_backend_harms_no_file() {
    if child_task().is_none() {
        child_succeeds("a_refused_backend_harms_no_file", "filtered", |command| {
            // SAFETY: the closure allocates nothing and takes no lock.
            unsafe { command.pre_exec(refuse_io_uring) };
        });
        return;
    }
    let directory = directory();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    std::fs::write(&old, "kept").unwrap();
    let options = Options::new().backend(BackendChoice::Uring);
    assert!(options.create(&new).is_err() && options.append(&new).is_err());
    assert!(!new.exists(), "an open that failed left a file");
    assert!(options.create(&old).is_err());
    assert_file(&old, b"kept", &"an open that failed");
}

#[test]
fn io_uring_asked_for_is_used() {
    let directory = directory();
    for choice in [BackendChoice::Auto, BackendChoice::Uring] {
        let writer = Options::new().backend(choice).create(directory.path().join("take")).unwrap();
        assert_eq!(writer.backend(), Backend::Uring, "io_uring is refused on this machine");
        assert_eq!(writer.fallbacks(), [""; 0]);
        assert!(writer.is_direct());
        let label = writer.durability();
        assert_eq!(label.medium, Medium::StableMedia, "{label}: tests want ext4, xfs or btrfs");
    }
    let off = Options::new().direct(Direct::Off).create(directory.path().join("take")).unwrap();
    assert!(!off.is_direct() && off.fallbacks().is_empty());
    // Whoever follows it reads it from the page cache.
    for (direct, is_direct) in [(Direct::Auto, false), (Direct::On, true)] {
        let options = Options::new().followed(true).direct(direct);
        let followed = options.create(directory.path().join("followed")).unwrap();
        assert_eq!(followed.is_direct(), is_direct);
    }
}

/// Some kernels take direct I/O on tmpfs and some don't; either way it is said, and the label
/// promises no more than memory.
#[test]
fn a_file_in_memory() {
    if !has_own_mounts("a_file_in_memory") {
        return;
    }
    let directory = directory();
    let _mount = Mount::tmpfs(directory.path(), "size=16m");
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for drive in DRIVES {
            let path = directory.path().join("take");
            let config = Config { backend, direct: Direct::Auto, drive };
            let writer = config.create(&path);
            assert_eq!(writer.durability().medium, Medium::PageCache);
            let said = writer.fallbacks().join("; ");
            assert_eq!(writer.is_direct(), said.is_empty(), "{said}");
            let direct = writer.is_direct();
            // Before Linux 6.6 a file there takes neither direct I/O nor the mark of its padding.
            let refused = ["direct I/O was refused", "no mark could tell"];
            assert!(direct || refused.iter().any(|words| said.contains(words)), "{said}");
            works(writer, &path, &config.to_string());

            let new = directory.path().join("new");
            match (direct, config.options().direct(Direct::On).create(&new)) {
                (true, Ok(writer)) => assert!(writer.is_direct()),
                (false, Err(error)) => {
                    assert!(matches!(error, Error::Io { operation: Operation::Open, .. }));
                    assert!(!new.exists(), "a refused open left a file");
                }
                (_, other) => panic!("{config}: {direct} by Auto, {other:?} by On"),
            }
            let _ = std::fs::remove_file(&new);
        }
    }
}

/// What lies on memory is in memory, however many loop devices and overlays are above it.
#[test]
fn a_label_follows_what_a_file_system_lies_on() {
    if !has_own_mounts("a_label_follows_what_a_file_system_lies_on") {
        return;
    }
    let directory = directory();
    let folder = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let label = |at: &Path| {
        let writer = Options::new().create(at.join("take")).unwrap();
        let label = writer.durability().clone();
        works(writer, &at.join("take"), &label.to_string());
        label
    };
    let loops = |memory: &Path, at: &Path| {
        Mount::make_ext4(&memory.join("image"), 16);
        Mount::ext4(&memory.join("image"), at)
    };
    let over = |name: &str, below: &Path, more: &str| {
        let parts = ["upper", "work", "lower"].map(|part| below.join(name).join(part));
        parts.iter().for_each(|part| std::fs::create_dir_all(part).unwrap());
        let [upper, work, lower] = parts.map(|part| part.display().to_string());
        let at = folder(name);
        Mount::overlay(&at, &format!("lowerdir={lower},upperdir={upper},workdir={work}{more}"))
    };

    let (ram, on_ram, on_disk) = (folder("ram"), folder("on ram"), folder("on disk"));
    let _ram = Mount::tmpfs(&ram, "size=64m");
    let _on_ram = loops(&ram, &on_ram);
    let _on_disk = loops(directory.path(), &on_disk);
    let found = label(&on_ram);
    assert_eq!(found.medium, Medium::PageCache, "{found}");
    assert!(found.reason.contains("tmpfs") && found.reason.contains("image"), "{found}");
    assert_eq!(label(&on_disk).medium, Medium::StableMedia);

    let over_ram = over("over ram", &on_ram, "");
    let found = label(&over_ram.0);
    assert_eq!(found.medium, Medium::PageCache, "{found}");
    let over_disk = over("over disk", &on_disk, "");
    let found = label(&over_disk.0);
    assert_eq!(found.medium, Medium::StableMedia, "{found}");
    assert!(found.reason.contains("overlay") && found.reason.contains("ext4"), "{found}");
    let volatile = over("volatile", &on_disk, ",volatile");
    let found = label(&volatile.0);
    assert_eq!(found.medium, Medium::PageCache, "{found}");
    assert!(found.reason.contains("volatile"), "{found}");
}

/// A file system that was told to send no flushes is not trusted to flush.
#[test]
fn a_mount_without_barriers() {
    if !has_own_mounts("a_mount_without_barriers") {
        return;
    }
    let directory = directory();
    let (image, at) = (directory.path().join("image"), directory.path().join("mount"));
    std::fs::create_dir(&at).unwrap();
    Mount::make_ext4(&image, 16);
    for (options, medium) in [("loop", Medium::StableMedia), ("loop,nobarrier", Medium::Device)] {
        let _mount = Mount::image("ext4", &image, &at, options);
        for backend in [BackendChoice::Uring, BackendChoice::Sync] {
            let path = at.join("take");
            let config = Config { backend, direct: Direct::Auto, drive: Drive::Thread };
            let writer = config.create(&path);
            assert_eq!(writer.durability().medium, medium, "{options}: {}", writer.durability());
            works(writer, &path, &config.to_string());
        }
    }
}

/// Buffers that can't be registered with the kernel for want of memory to lock cost speed, and
/// that is said, with the limit. Without any such memory newer kernels refuse even a ring.
#[test]
fn little_memory_may_be_locked() {
    const NAME: &str = "little_memory_may_be_locked";
    let Some(task) = child_task() else {
        if !goes_direct_where_anybody_may_write(NAME) {
            return;
        }
        for kib in [0, 64, 512] {
            child_succeeds(NAME, &kib.to_string(), |command| lock_at_most(command, kib << 10));
        }
        return;
    };
    let backend = if task == "0" { BackendChoice::Auto } else { BackendChoice::Uring };
    for direct in [Direct::On, Direct::Off] {
        for drive in DRIVES {
            let limit = format!("`ulimit -l`, which is {task} KiB");
            watched(&format!("{direct:?} {drive:?}, limit {task}"), move || {
                let directory = anybodys_directory();
                let path = directory.path().join("take");
                let config = Config { backend, direct, drive };
                let writer = config.create(&path);
                // Other programs of this user may have locked some too, or none.
                let pinned = pins(&writer);
                let said = writer.fallbacks().join("; ");
                assert_eq!(said.contains(&limit), !pinned, "{pinned} {said}");
                assert!(
                    pinned || said.contains("KiB to pin") || said.contains("refused"),
                    "{said}"
                );
                works(writer, &path, &config.to_string());
            });
        }
    }
}

/// A thousand buffers want a ring for as many operations; where that is refused a smaller one
/// does, and nobody goes without.
#[test]
fn a_ring_that_is_too_large_is_made_smaller() {
    const NAME: &str = "a_ring_that_is_too_large_is_made_smaller";
    if child_task().is_none() {
        return child_succeeds(NAME, "limited", |command| lock_at_most(command, 100 << 10));
    }
    for drive in DRIVES {
        watched(&format!("{drive:?}"), move || {
            let directory = anybodys_directory();
            let path = directory.path().join("take");
            let options = Options::new().drive(drive).buffer_size(SMALL).buffers(1000);
            let writer = options.create(&path).unwrap();
            assert_eq!(writer.backend(), Backend::Uring, "{:?}", writer.fallbacks());
            let said = writer.fallbacks().join("; ");
            // Kernels before 6.14 don't count the ring itself.
            assert!(!said.contains("a ring for") || said.contains("`ulimit -l`"), "{said}");
            works(writer, &path, "a smaller ring");
        });
    }
}

/// Whether the kernel has pinned the buffers of a writer (VmPin in proc_pid_status(5)).
fn pins(writer: &Writer) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
    let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib << 10 >= writer.stats().memory / 2
}

/// The child runs as nobody, and may lock so many bytes of memory.
fn lock_at_most(command: &mut std::process::Command, bytes: u64) {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534); // root is above the limit
    }
    let limit = move || {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: a live struct.
        match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(limit) };
}

/// Where anybody may write.
fn anybodys_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// Skips a test that wants direct I/O there: a root file system in memory takes none before Linux
/// 6.6.
fn goes_direct_where_anybody_may_write(test: &str) -> bool {
    let directory = anybodys_directory();
    let path = directory.path().join("direct");
    let opened = Options::new().direct(Direct::On).create(&path);
    if let Err(error) = &opened {
        let mend = "mount a disk with ext4, xfs or btrfs there";
        skip(test, &format!("/var/tmp takes no direct I/O ({error}): {mend}"));
    }
    opened.is_ok()
}
