//! Other crates that write durably, as subjects of the comparison. They are compiled only with
//! `--features peers`.
//!
//! Each is used as its documentation shows, with its defaults, and compared to the floor of its own
//! way: the page cache, or direct I/O. What frames or checksums its records does more than a writer
//! of bytes; what keeps files of its own has no file state.

mod logs;
#[cfg(target_os = "linux")]
mod one_thread;
mod tokio_fs;

use std::io;

use writeflush_workloads::subject::{Class, Family, Kind, Open, Place};

/// All peers that are built in here.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut all = vec![
        kind("peer tokio::fs+sync_data", CACHED, tokio_fs::open),
        kind("peer wal-db", CACHED, logs::wal_db),
        kind("peer open-wal", CACHED, logs::open_wal),
        kind("peer okaywal", CACHED, logs::okaywal),
    ];
    #[cfg(target_os = "linux")]
    all.extend([
        kind("peer compio+sync_data", CACHED, one_thread::compio),
        kind("peer glommio+fdatasync", "floor pwrite+fdatasync", one_thread::glommio),
    ]);
    all
}

const CACHED: &str = "floor page cache+fdatasync";

/// What a subject may take beside its records: open-wal reserves two segments of 128 MiB, okaywal
/// two of 1 MiB, and every log frames what it takes.
pub(crate) fn beside(kind: &Kind) -> u64 {
    match kind.name {
        "peer wal-db" | "peer okaywal" => 16 << 20,
        "peer open-wal" => 272 << 20,
        _ => 0,
    }
}

fn kind(name: &'static str, floor: &'static str, open: Open) -> Kind {
    let floor = cfg!(target_os = "linux").then_some(floor);
    Kind { name, family: Family::Peer, class: Class::Durable, floor, spins: false, open }
}

fn refused<T>(place: &Place<'_>, why: &str) -> io::Result<T> {
    Err(io::Error::other(format!(
        "not on a {} file with {} committing at the same time: {why}",
        place.state.name(),
        place.committers
    )))
}

#[cfg(test)]
mod tests {
    use writeflush_workloads::FileState;

    use super::*;

    #[test]
    fn every_peer_commits_where_it_says_it_can() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).expect("a folder");
        let mut committed = Vec::new();
        for kind in kinds() {
            for (state, committers) in
                [(FileState::Growing, 1), (FileState::Written, 1), (FileState::Growing, 4)]
            {
                let path = folder.path().join("file");
                let place = Place {
                    path: &path,
                    state,
                    committers,
                    record: 4096,
                    direct: true,
                    commits: 10,
                };
                state.prepare(&path, place.len()).expect("a file");
                match (kind.open)(&place) {
                    Ok(subject) => {
                        for committer in 0..committers {
                            for _ in 0..10 {
                                subject.commit(committer, &[7; 4096]).expect(kind.name);
                            }
                        }
                        committed.push(kind.name);
                    }
                    Err(error) => eprintln!("{}: {error}", kind.name),
                }
            }
        }
        for kind in kinds() {
            assert!(committed.contains(&kind.name), "{} never committed", kind.name);
        }
    }
}
