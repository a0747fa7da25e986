//! `probe` as its user meets it.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

#[path = "../../tests/common/seccomp.rs"]
mod seccomp;
#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use skip::skip;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush"));
    command.arg("probe");
    command
}

fn probe(arguments: &[&str]) -> Output {
    tool().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Probes a place, checks that nothing was left there, and returns the result.
fn result_of(place: &Path) -> (Option<i32>, Value) {
    result_by(tool(), place)
}

/// As above, with a tool that was made ready in some way.
fn result_by(mut tool: Command, place: &Path) -> (Option<i32>, Value) {
    let results = directory();
    let file = results.path().join("result.json");
    let kept = file.to_str().unwrap();
    tool.args(["--fences", "50", "--json", kept]).arg(place);
    let output = tool.output().unwrap();
    assert!(fs::read_dir(place).unwrap().all(|entry| {
        !entry.unwrap().file_name().to_string_lossy().starts_with(".writeflush-perf")
    }));
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["kind"], "probe");
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    for check in document["result"]["checks"].as_array().unwrap() {
        assert!(shown.contains(check["reason"].as_str().unwrap()), "{shown}");
    }
    let replayed = probe(&["--replay", kept]);
    assert_eq!(shown, String::from_utf8(replayed.stdout).unwrap());
    assert_eq!(output.status.code(), replayed.status.code());
    let words = words(&document);
    let status = match () {
        () if words.contains(&"NOOP") => 1,
        () if words.contains(&"UNVERIFIABLE") => 3,
        () => 0,
    };
    assert_eq!(output.status.code(), Some(status), "{document}");
    (output.status.code(), document)
}

/// The names of the disks on the way, from the top.
fn disks(document: &Value) -> Vec<&str> {
    let disks = document["environment"]["disks"].as_array().unwrap();
    disks.iter().map(|disk| disk["name"].as_str().unwrap()).collect()
}

fn words(document: &Value) -> Vec<&str> {
    let checks = document["result"]["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    checks.iter().map(|check| check["word"].as_str().unwrap()).collect()
}

#[test]
fn here_the_answer_agrees_with_the_counters() {
    let folder = directory();
    let (_, document) = result_of(folder.path());
    let cache = &document["environment"]["write_cache"];
    for check in document["result"]["checks"].as_array().unwrap() {
        if check["word"] == "HONEST" && cache == "write back" {
            assert!(check["device_flushes"].as_u64().unwrap() >= 50, "{check}");
        }
    }
    for fact in ["load_start", "load_end", "direct_io_memory_alignment"] {
        assert!(document["environment"][fact].is_number(), "{fact}: {document}");
    }
}

/// The disk fails in the middle of a check: here, files may not be longer than 64 KiB.
#[test]
fn a_check_that_fails_is_not_honest() {
    let folder = directory();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_writeflush")]);
    limited.arg("probe");
    let (status, document) = result_by(limited, folder.path());
    assert_eq!(status, Some(3));
    for check in document["result"]["checks"].as_array().unwrap() {
        assert_eq!(check["word"], "UNVERIFIABLE", "{check}");
        assert!(check["reason"].as_str().unwrap().contains("the check failed"), "{check}");
    }
}

/// io_uring_setup fails with EPERM in the child, as under Docker's default profile.
#[test]
fn io_uring_that_is_refused_is_said_with_the_reason() {
    let folder = directory();
    let mut tool = tool();
    // SAFETY: the closure makes system calls only.
    unsafe { tool.pre_exec(|| seccomp::refuse(libc::SYS_io_uring_setup, libc::EPERM)) };
    let (_, document) = result_by(tool, folder.path());
    let result = &document["result"];
    let said = result["io_uring"].as_str().unwrap();
    assert!(said.contains("not permitted"), "{said}");
    assert_eq!(result["choice"]["backend"], "sync");
    let checks = result["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| !check["subject"].as_str().unwrap().contains("io_uring")));
}

#[test]
fn without_root_it_answers_too() {
    // SAFETY: it reads a number.
    if unsafe { libc::geteuid() } != 0 {
        return; // then every test here is that test
    }
    // Where everybody may go in, unlike the build's own folder.
    let (place, program) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open_to = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let copy = program.path().join("tool");
    fs::copy(env!("CARGO_BIN_EXE_writeflush"), &copy).unwrap();
    open_to(program.path(), 0o755);
    open_to(place.path(), 0o777);
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.uid(65534).gid(65534).arg("probe").args(arguments).output().unwrap()
    };
    let folder = place.path().to_str().unwrap();
    let output = as_nobody(&["--fences", "50", folder]);
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    assert!([0, 1, 3].contains(&output.status.code().unwrap()), "{}", stderr(&output));
    assert!(["HONEST", "NOOP", "UNVERIFIABLE"].iter().any(|word| shown.contains(word)), "{shown}");
    for line in ["device ", "write cache ", "FUA ", "direct I/O aligned "] {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line}: {shown}");
    }
    open_to(place.path(), 0o755);
    let output = as_nobody(&[folder]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("name another directory"), "{}", stderr(&output));
}

#[test]
fn memory_is_a_noop() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return skip("memory_is_a_noop", "there is no /dev/shm");
    };
    let (status, document) = result_of(folder.path());
    assert_eq!(status, Some(1));
    assert!(words(&document).iter().all(|word| *word == "NOOP"), "{document}");
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        eprintln!("{program} {arguments:?}: {}", stderr(&output));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A mount for one test, with the loop device under it, if that is not the mount's own.
struct Mounted {
    folder: tempfile::TempDir,
    loop_device: Option<String>,
}

impl Mounted {
    /// A file system in a file. `None` where it can't be made: that takes root.
    fn new(image_in: &Path, make: &[&str]) -> Option<Self> {
        let image = image_in.join("image");
        fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
        let file = image.to_str().unwrap();
        let made = run(make[0], &[&make[1..], &[file]].concat());
        made.and_then(|_| Self::at(&["-o", "loop", file])).or_else(|| {
            skip(make[0], "it and a loop mount take root");
            None
        })
    }

    fn at(what: &[&str]) -> Option<Self> {
        let mounted = Self { folder: directory(), loop_device: None };
        run("mount", &[what, &[mounted.path()]].concat())?;
        Some(mounted)
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.path()]);
        if let Some(device) = &self.loop_device {
            run("losetup", &["-d", device]);
        }
    }
}

#[test]
fn a_loop_device_on_a_disk_is_followed_to_the_disk_of_its_file() {
    let images = directory();
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.ext4", "-q"]) else { return };
    let (_, document) = result_of(mounted.folder.path());
    let environment = &document["environment"];
    assert!(environment["device"].as_str().unwrap().starts_with("loop"), "{environment}");
    assert!(environment["backing_file"].as_str().unwrap().ends_with("/image"), "{environment}");
    assert!(environment["backing_file_system"].is_string(), "{environment}");
    let (_, below) = result_of(images.path());
    assert_eq!(disks(&document)[1..], disks(&below)[..]);
    // What the disk below says of itself, the file system on the file can't better.
    assert!(words(&document).iter().all(|word| words(&below).contains(word)), "{document}");
}

/// The file under it has no name any more, so that the disk below can't be found.
#[test]
fn a_loop_device_whose_file_was_deleted_is_unverifiable() {
    let images = directory();
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.ext4", "-q"]) else { return };
    fs::remove_file(images.path().join("image")).unwrap();
    let (status, document) = result_of(mounted.folder.path());
    assert_eq!(status, Some(3));
    let reason = document["result"]["checks"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("not in sight"), "{reason}");
}

/// A disk with one partition from its second megabyte on.
fn partitioned(image: &Path) {
    let sectors = (160u32 << 20) / 512;
    let mut record = vec![0u8; 512];
    record[446 + 4] = 0x83;
    record[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    record[446 + 12..446 + 16].copy_from_slice(&(sectors - 2048).to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::write(image, record).unwrap();
    fs::OpenOptions::new().write(true).open(image).unwrap().set_len(160 << 20).unwrap();
}

#[test]
fn a_partition_is_followed_to_its_disk() {
    let images = directory();
    let image = images.path().join("disk");
    partitioned(&image);
    let device = run("losetup", &["-P", "--show", "-f", image.to_str().unwrap()]);
    let Some(device) = device else { return skip("a partition", "loop devices take root") };
    let mounted = Mounted { folder: directory(), loop_device: Some(device.clone()) };
    let partition = format!("{device}p1");
    // By hand: a kernel for virtual machines may read no partition tables.
    let made = run("partx", &["-a", &device])
        .and_then(|_| run("mkfs.ext4", &["-q", &partition]))
        .and_then(|_| run("mount", &[&partition, mounted.path()]));
    if made.is_none() {
        return skip("a partition", "those of a loop device take partx");
    }
    let (_, document) = result_of(mounted.folder.path());
    assert_eq!(disks(&document)[0], device.trim_start_matches("/dev/"));
    let way = document["environment"]["way"].as_array().unwrap();
    assert_eq!(way[1], partition.trim_start_matches("/dev/"), "{document}");
    assert!(words(&document).iter().all(|word| *word != "UNVERIFIABLE"), "{document}");
}

#[test]
fn an_overlay_is_followed_to_what_it_writes_to() {
    let folders = directory();
    let part = |name: &str| -> PathBuf {
        let path = folders.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let [lower, upper, work] = ["lower", "upper", "work"].map(part);
    let [below, above, aside] = [&lower, &upper, &work].map(|path| path.display());
    let options = format!("lowerdir={below},upperdir={above},workdir={aside}");
    let Some(mounted) = Mounted::at(&["-t", "overlay", "overlay", "-o", &options]) else {
        return skip("an overlay", "it takes root");
    };
    let (_, document) = result_of(mounted.folder.path());
    assert_eq!(document["environment"]["file_system"], "overlay");
    let (_, below) = result_of(&upper);
    assert_eq!(disks(&document), disks(&below));
    assert!(words(&document).iter().all(|word| words(&below).contains(word)), "{document}");
}

#[test]
fn a_loop_device_in_memory_keeps_nothing() {
    let Ok(images) = tempfile::tempdir_in("/dev/shm") else {
        return skip("a loop device in memory", "there is no /dev/shm");
    };
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.ext4", "-q"]) else { return };
    let (status, document) = result_of(mounted.folder.path());
    assert_eq!(document["environment"]["backing_file_system"], "tmpfs");
    assert_eq!(status, Some(1));
    assert!(words(&document).iter().all(|word| *word == "NOOP"), "{document}");
}

/// Its files have a device number that no disk has: the mount says which it is.
#[test]
fn btrfs_is_followed_to_its_disk() {
    let images = directory();
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.btrfs", "-q"]) else { return };
    let (_, document) = result_of(mounted.folder.path());
    assert!(document["environment"]["device"].as_str().unwrap().starts_with("loop"), "{document}");
}

#[test]
fn bad_input_is_answered_in_a_line() {
    let folder = directory();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let name = file.to_str().unwrap();
    for (arguments, says) in [
        (vec!["/no/such/place"], "does not exist"),
        (vec![name], "is no directory"),
        (vec!["--fences", "0", "."], "--fences"),
        (vec!["--json", name, "."], "--force"),
        (vec!["/proc"], "name another directory"),
    ] {
        let output = probe(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
