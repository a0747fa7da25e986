//! Somebody closes the number that a file is read by, and opens something of his own.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::caller::{CREATE, Caller, name, place};
use super::common::{child_succeeds, child_task, watched};
use writeflush::mmio::*;

fn numbers_of(path: &Path) -> Vec<RawFd> {
    let path = path.canonicalize().unwrap();
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|one| one.unwrap().file_name());
    let names: Vec<_> = names.collect();
    let is_one = |name: &std::ffi::OsString| {
        std::fs::read_link(Path::new("/proc/self/fd").join(name)).is_ok_and(|to| to == path)
    };
    names.into_iter().filter(is_one).map(|name| name.to_str().unwrap().parse().unwrap()).collect()
}

/// His bytes are not taken for ours, and his descriptor is not closed.
#[test]
fn a_strangers_file_is_neither_read_nor_closed() {
    let test = "descriptors::a_strangers_file_is_neither_read_nor_closed";
    if child_task().is_none() {
        return child_succeeds(test, "alone", |_| {});
    }
    watched(test, || {
        let (_dir, path) = place();
        let (_other, strangers) = place();
        std::fs::write(&strangers, [9; 1000]).unwrap();
        let stranger = File::open(&strangers).unwrap();
        for flags in [CREATE, MMIO_READ] {
            let mut caller = Caller::open(&name(&path), flags).unwrap();
            if flags == CREATE {
                assert_eq!(caller.write_flush(&[1; 1000]), 1000);
                caller.seek(0, SEEK_SET);
            }
            let mut bytes = [0; 10];
            assert_eq!((caller.read(&mut bytes), bytes), (10, [1; 10]));
            // A reader of what is written has the highest number: it came last.
            let number = numbers_of(&path).into_iter().max().unwrap();
            // SAFETY: just what must not be done.
            assert_eq!(unsafe { libc::dup2(stranger.as_raw_fd(), number) }, number);
            assert_eq!(caller.read(&mut bytes), -1, "{flags:#x}: a stranger's bytes were read");
            let (_, said) = caller.last_error();
            assert!(said.contains("somebody else closed"), "{said}");
            caller.close();
            // SAFETY: plain number.
            assert_eq!(unsafe { libc::close(number) }, 0, "{flags:#x}: it was closed");
        }
        assert_eq!(std::fs::read(path).unwrap(), [1; 1000]);
    });
}
