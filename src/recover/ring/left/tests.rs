//! Recoveries that are killed at every step, and ring files that somebody has damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::buffers::Sequencer;
use crate::options::{BackendChoice, Direct, Drive};
use crate::recover::{ring, tests::Killed};
use crate::survive::{Bond, PatchHead, State, Word, at};
use crate::writer::Writer;

const SIZE: usize = 8192;

/// A ring file's name in memory, which goes with the test.
struct Name(PathBuf);

impl Name {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self(format!("/dev/shm/writeflush-unit-{process}-{number}.ring").into())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a writer has left that wrote a part of what it had accepted.
struct Scene {
    _directory: tempfile::TempDir,
    path: PathBuf,
    name: Name,
    /// The file as it was found, and as it has to be.
    found: Vec<u8>,
    wanted: Vec<u8>,
    ring: Vec<u8>,
    bond: Bond,
}

fn options(name: &Name, direct: Direct) -> Options {
    let still = Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    still.direct(direct).buffer_size(SIZE).survive_kill(&name.0)
}

impl Scene {
    fn new(direct: Direct) -> Self {
        // Beside this program: what is temporary may lie in memory, without direct I/O.
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let (path, name) = (directory.path().join("take"), Name::new());
        let mut writer = options(&name, direct).create(&path).unwrap();
        let mut wanted = Vec::new();
        let mut push = |writer: &mut Writer, byte, len| {
            writer.try_write(&vec![byte; len]).unwrap();
            wanted.resize(wanted.len() + len, byte);
        };
        push(&mut writer, 1, 8000);
        push(&mut writer, 2, 2000);
        writer.flush().unwrap();
        push(&mut writer, 3, 9000); // round the end of the ring
        for (from, bytes) in [(100, b"on disk"), (9_990, b"in both"), (15_000, b"in ring")] {
            writer.patch(from as u64, bytes).unwrap();
            wanted[from..from + bytes.len()].copy_from_slice(bytes);
        }
        writer.control().abandon();
        drop(writer);
        let ring = fs::read(&name.0).unwrap();
        let bond = Head::parse(&ring).unwrap().bond;
        let found = fs::read(&path).unwrap();
        Self { _directory: directory, path, name, found, wanted, ring, bond }
    }

    /// As it was found.
    fn restore(&self, ring: &[u8]) {
        let _ = fs::remove_file(&self.name.0); // to cut it would end whoever still has it mapped
        fs::write(&self.name.0, ring).unwrap();
        fs::write(&self.path, &self.found).unwrap();
        let locked = Locked::new(&Options::new(), &self.path).unwrap();
        locked.file.set_bond(Some(self.bond)).unwrap();
    }

    fn recover(&self) -> Result<Option<Brought>, Error> {
        ring(&self.name.0, &self.path)
    }

    fn assert_whole(&self, label: &str) {
        let found = fs::read(&self.path).unwrap();
        let differs = found.iter().zip(&self.wanted).position(|(a, b)| a != b);
        assert_eq!((found.len(), differs), (self.wanted.len(), None), "{label}");
    }
}

/// Fails every step from one on; the steps of the ground count, too.
struct KilledRing<'a, R>(R, &'a std::cell::Cell<usize>);

impl<R: Ring> Ring for KilledRing<'_, R> {
    fn read(&mut self, positions: Range<u64>) -> io::Result<Vec<u8>> {
        self.0.read(positions)
    }

    fn patch(&self, place: Range<usize>) -> &[u8] {
        self.0.patch(place)
    }

    fn remove(&mut self) -> io::Result<()> {
        match self.1.get() {
            0 => Err(io::Error::other("killed")),
            left => {
                self.1.set(left - 1);
                self.0.remove()
            }
        }
    }
}

/// Recovers, and is killed behind so many steps; whether it got through.
fn recover_killed(scene: &Scene, steps: usize) -> bool {
    let name: Arc<Path> = scene.name.0.as_path().into();
    let Found::Ring(file) = survive::found(&Options::new(), &name).unwrap() else {
        return true; // the next one found nothing to do
    };
    let left = Left { name: &name, file };
    let image = left.image().unwrap().unwrap();
    let plan = image.plan().unwrap();
    let locked = Locked::new(&Options::new(), &scene.path).unwrap();
    check(&image.head, &plan, &locked).unwrap().unwrap();
    // The removal of the ring is one step behind those of the ground: cut, unmark, sync, writes.
    let ground = Beside::new(&scene.path, locked.file.clone());
    let mut ground = Killed { ground, left: steps };
    let writes = 1 + plan.patches.len() + 3;
    let removal = std::cell::Cell::new(usize::from(steps > writes));
    let mut ring = KilledRing(Source { left: &left, image: &image }, &removal);
    carry_out(&mut ground, &mut ring, &plan, true).is_ok()
}

#[test]
fn a_recovery_that_is_killed_at_any_step_ends_the_same_way() {
    for direct in [Direct::Off, Direct::On] {
        let scene = Scene::new(direct);
        for first in 0..12 {
            for second in 0..12 {
                scene.restore(&scene.ring);
                let through = recover_killed(&scene, first) || recover_killed(&scene, second);
                let brought = scene.recover().unwrap();
                assert!(!(through && brought.is_some()), "{first}, {second}: it had ended");
                scene.assert_whole(&format!("{direct:?}, killed at {first} and {second}"));
                assert!(!scene.name.0.exists());
            }
        }
        scene.restore(&scene.ring);
        let brought = scene.recover().unwrap().unwrap();
        assert_eq!((brought.len, brought.bytes), (19_000, 9000), "{direct:?}");
        assert_eq!((brought.patches, brought.interrupted), (3, 0), "{direct:?}");
        assert_eq!(scene.recover().unwrap(), None);
    }
}

/// Where a byte of a ring file means something.
fn meaningful(ring: &[u8]) -> Vec<usize> {
    let heads = (1..=4).map(PatchHead::place).flat_map(|at| at..at + PatchHead::LEN + 8);
    let words = [Word::Shared, Word::Written, Word::Queued, Word::Applied];
    let words = words.iter().flat_map(|word| word.at()..word.at() + 8);
    let places = (0..Head::LEN).chain(at::STATE..at::STATE + 8).chain(at::WORDS..at::WORDS + 8);
    let places = places.chain(at::WORDS + 128..at::WORDS + 136).chain(words).chain(heads);
    let cells = at::CELLS..at::CELLS + 32;
    places.chain(cells).filter(|at| *at < ring.len()).collect()
}

/// Nobody panics, and nothing is written where the ring can't have had it.
#[test]
fn a_damaged_ring_file_is_refused_or_does_no_harm() {
    let scene = Scene::new(Direct::Off);
    for shared in [false, true] {
        let mut ring = scene.ring.clone();
        ring[Word::Shared.at()] = shared.into();
        for place in meaningful(&ring) {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut damaged = ring.clone();
                damaged[place] ^= flip;
                scene.restore(&damaged);
                let outcome = scene.recover();
                let file = fs::read(&scene.path).unwrap();
                let label = format!("byte {place} ^ {flip:#x}, shared {shared}: {outcome:?}");
                match outcome {
                    Err(Error::Unrecoverable { .. }) => assert_eq!(file, scene.found, "{label}"),
                    Ok(_) => {
                        assert!(file.len() <= 10_000 + 4 * SIZE, "{label}");
                        // What the file had, and no patch went to.
                        assert_eq!(file[200..8192], scene.wanted[200..8192], "{label}");
                    }
                    Err(error) => panic!("{label}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_ring_file_that_is_too_short_or_too_long_is_refused() {
    let scene = Scene::new(Direct::Off);
    let len = scene.ring.len();
    for short in [1, 95, 96, 300, 4096, 8192, 100_000, len - 1] {
        scene.restore(&scene.ring[..short]);
        let refused = scene.recover();
        assert!(matches!(refused, Err(Error::Unrecoverable { .. })), "{short}: {refused:?}");
        assert_eq!(fs::read(&scene.path).unwrap(), scene.found);
    }
    scene.restore(&[scene.ring.clone(), vec![0]].concat());
    assert!(matches!(scene.recover(), Err(Error::Unrecoverable { .. })));
    scene.restore(&scene.ring);
    assert!(scene.recover().unwrap().is_some());
    scene.assert_whole("as it was");
}

#[test]
fn a_ring_goes_to_no_other_file_and_to_none_that_others_have_written() {
    let scene = Scene::new(Direct::Off);
    let other = scene.path.with_file_name("other");
    fs::write(&other, b"other").unwrap();
    let refused = ring(&scene.name.0, &other).unwrap_err();
    assert!(refused.to_string().contains("another file"), "{refused}");
    assert_eq!(fs::read(&other).unwrap(), b"other");
    // A copy has what the file has, but is another one.
    fs::copy(&scene.path, &other).unwrap();
    assert!(matches!(ring(&scene.name.0, &other), Err(Error::Unrecoverable { .. })));
    // The same name, another file.
    let kept = scene.path.with_file_name("kept");
    fs::rename(&scene.path, &kept).unwrap();
    fs::write(&scene.path, &scene.found).unwrap();
    assert!(matches!(scene.recover(), Err(Error::Unrecoverable { .. })));
    fs::rename(&kept, &scene.path).unwrap(); // its own again
    let at = scene.found.len() as u64;
    let mut writer = Options::new().append_at(&scene.path, at).unwrap();
    writer.write(b"by others").unwrap();
    writer.close().unwrap();
    let refused = scene.recover().unwrap_err();
    assert!(refused.to_string().contains("others have written"), "{refused}");
    assert!(fs::read(&scene.path).unwrap().ends_with(b"by others"));
    assert!(scene.name.0.exists());
}

/// Where a copy had not come the ring has nothing, whatever lay there a lap before.
#[test]
fn an_interrupted_copy_shows_nothing_of_an_earlier_lap() {
    for shared_from in [0, 12] {
        let directory = tempfile::tempdir().unwrap();
        let (path, name) = (directory.path().join("take"), Name::new());
        let mut writer = options(&name, Direct::Off).create(&path).unwrap();
        for _ in 0..shared_from {
            writer.write_flush(&[9; 4000]).unwrap();
        }
        let shared = writer.into_shared();
        for _ in shared_from..12 {
            shared.write_flush(&[9; 4000]).unwrap();
        }
        std::mem::forget(shared.grant(100).unwrap()); // its producer is killed
        shared.try_write(&[5; 50]).unwrap();
        shared.control().abandon();
        drop(shared);
        let brought = ring(&name.0, &path).unwrap().unwrap();
        assert_eq!((brought.bytes, brought.interrupted), (150, 100));
        assert!(brought.uncertain.iter().any(|range| range.contains(&48_000)));
        let wanted = [vec![9; 48_000], vec![0; 100], vec![5; 50]].concat();
        let found = fs::read(&path).unwrap();
        let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
        assert_eq!((found.len(), differs), (wanted.len(), None), "shared from {shared_from}");
    }
}

// ---- what shared producers leave ------------------------------------------------------------------------

const CELL: u64 = Sequencer::CELL;

/// The image of a shared ring of four cells, whose first byte was at `start`.
fn shared(start: u64, reserved: u64, counts: [u64; 4]) -> Image {
    let capacity = 4 * CELL;
    let head = Head {
        capacity,
        total: capacity,
        block: 4096,
        start: 0,
        kept: 0,
        device: 0,
        inode: 0,
        marked: 0,
        bond: [1; 16],
    };
    let extent = Extent::new(capacity, capacity).unwrap();
    let mut control = vec![0; extent.control as usize];
    let mut put =
        |at: usize, number: u64| control[at..at + 8].copy_from_slice(&number.to_ne_bytes());
    put(at::STATE, State::Ready.word());
    put(Word::Shared.at(), 1);
    put(Word::Written.at(), start);
    put(at::WORDS, reserved);
    (0..4).zip(counts).for_each(|(index, count)| put(at::CELLS + 8 * index, count));
    Image { head, extent, control }
}

#[test]
fn of_shared_producers_the_last_cell_that_got_anything_is_the_end() {
    let plan = |start, reserved, counts| shared(start, reserved, counts).plan().unwrap();
    // All is there.
    let whole = plan(0, 10_000, [CELL, CELL, 10_000 - 2 * CELL, 0]);
    assert_eq!((whole.bytes, whole.interrupted, whole.uncertain), (0..10_000, 0, vec![]));
    // The last copy had not arrived: it is cut off where its cells have nothing else.
    let last = plan(0, 16_000, [CELL, 1000, 0, 0]);
    assert_eq!((last.bytes, last.interrupted), (0..2 * CELL, CELL - 1000));
    assert_eq!(last.uncertain, vec![Range { start: CELL, end: 2 * CELL }]);
    // One in the midst had not: what is behind it stays.
    let midst = plan(0, 16_000, [CELL, 500, 0, 16_000 - 3 * CELL]);
    assert_eq!((midst.bytes, midst.interrupted), (0..16_000, 2 * CELL - 500));
    assert_eq!(midst.uncertain, vec![Range { start: CELL, end: 3 * CELL }]);
    // The second lap, where the ring begins in the midst of a cell that was written in part.
    let start = 4 * CELL + 100;
    let lap = plan(start, start + 50, [CELL + 150, CELL, CELL, CELL]);
    assert_eq!((lap.bytes, lap.interrupted), (4 * CELL..start + 50, 0));
    // Nothing has come since.
    let none = plan(start, start + 50, [CELL + 100, CELL, CELL, CELL]);
    assert_eq!((none.bytes, none.interrupted), (4 * CELL..start, 0));
    // A push that is longer than the ring has its place, and no memory yet.
    let long = plan(0, 1 << 20, [CELL, CELL, CELL, CELL]);
    assert_eq!((long.bytes, long.interrupted), (0..4 * CELL, 0));
}
