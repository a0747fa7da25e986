//! Control groups of a test's own, of either version, for tests that run as root on Linux.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::skip;

/// A control group with a limit. It goes when it is dropped, its processes having ended.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

/// What is limited: the controller, and the files of its limit in both versions.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    controller: &'static str,
    first: &'static str,
    second: &'static str,
}

pub const TASKS: Limit = Limit { controller: "pids", first: "pids.max", second: "pids.max" };
pub const MEMORY: Limit =
    Limit { controller: "memory", first: "memory.limit_in_bytes", second: "memory.max" };

impl Group {
    /// `None`, loudly, where no such group is to be had (never in continuous integration).
    pub fn new(test: &str, limit: Limit, most: u64) -> Option<Self> {
        match Self::make(test, limit, most) {
            Ok(group) => Some(group),
            Err(error) => {
                skip(test, &format!("no control group with a limit on {limit:?}: {error}"));
                None
            }
        }
    }

    fn make(test: &str, limit: Limit, most: u64) -> std::io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let first = root.join(limit.controller);
        let (parent, file) = if first.join("cgroup.procs").exists() {
            (first, limit.first)
        } else {
            std::fs::write(root.join("cgroup.subtree_control"), format!("+{}", limit.controller))?;
            (root.to_path_buf(), limit.second)
        };
        let folder = parent.join(format!("writeflush-{}-{test}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let group = Self { folder };
        std::fs::write(group.folder.join(file), most.to_string())?;
        Ok(group)
    }

    /// Where a process writes its number to join.
    pub fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// How often the members met a limit on memory.
    pub fn memory_was_short(&self) -> u64 {
        let first = std::fs::read_to_string(self.folder.join("memory.failcnt"));
        let text = first.or_else(|_| std::fs::read_to_string(self.folder.join("memory.events")));
        let text = text.unwrap();
        let line = text.lines().find(|line| line.starts_with("max ")).unwrap_or(&text);
        line.trim_start_matches("max ").trim().parse().unwrap()
    }

    /// This process joins the group with those members.
    pub fn join(members: &Path) {
        std::fs::write(members, std::process::id().to_string()).unwrap();
    }
}

impl Drop for Group {
    /// A process that has ended is a member for a moment still.
    fn drop(&mut self) {
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(std::thread::panicking(), "{} stays busy", self.folder.display());
    }
}
