//! Recoveries that are killed, and whose power is cut, before every step and behind it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ground::Beside;
use super::steps::{Ground, Holds, Plan, carry_out};
use super::*;

/// Fails every step from one on, as if the process had been killed there.
struct Killed<G> {
    ground: G,
    left: usize,
}

impl<G> Killed<G> {
    fn step(&mut self) -> io::Result<&mut G> {
        match self.left {
            0 => Err(io::Error::other("killed")),
            _ => {
                self.left -= 1;
                Ok(&mut self.ground)
            }
        }
    }
}

impl<G: Ground> Ground for Killed<G> {
    fn name(&self, suffix: &str) -> PathBuf {
        self.ground.name(suffix)
    }

    fn holds(&mut self, name: &Path, tail: Range<u64>) -> io::Result<Holds> {
        self.step()?.holds(name, tail)
    }

    fn remove(&mut self, name: &Path) -> io::Result<()> {
        self.step()?.remove(name)
    }

    /// In the midst of the copy, too.
    fn copy(&mut self, tail: Range<u64>, name: &Path) -> io::Result<()> {
        let half = tail.start..tail.start + (tail.end - tail.start) / 2;
        if self.left == 1 {
            self.step()?.copy(half, name)?;
        } else {
            self.step()?.copy(tail, name)?;
        }
        self.step().map(drop)
    }

    fn sync(&mut self, name: &Path) -> io::Result<()> {
        self.step()?.sync(name)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?.rename(from, to)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.step()?.sync_directory()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.step()?.cut(len)
    }

    fn unmark(&mut self) -> io::Result<bool> {
        self.step()?.unmark()
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.step()?.sync_file()
    }
}

/// A file with three frames, a damaged one, and another.
fn damaged(path: &Path) -> Vec<u8> {
    let mut writer = Options::default().create(path).unwrap();
    for number in 1..=5 {
        writer.write(0, &[number; 100]).unwrap();
    }
    writer.into_inner().close().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[64 + 3 * 140 + 70] ^= 1;
    bytes
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whatever the step was, the next recovery ends as if there had been none before.
#[test]
fn a_recovery_that_is_killed_at_any_step_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take");
    let bytes = damaged(&path);
    let end = 64 + 3 * 140;
    let mut killed = 0;
    for left in 0.. {
        fs::write(&path, &bytes).unwrap();
        let options = Options::default();
        let locked = Locked::new(&options, &path).unwrap();
        let mut scanner = Scanner::new(Of(locked.file.clone())).unwrap();
        let plan = survey(&mut scanner).unwrap().plan;
        let ground = Beside::new(&path, locked.file.clone());
        let result = carry_out(&mut Killed { ground, left }, &plan);
        drop(locked);
        if fs::metadata(&path).unwrap().len() < bytes.len() as u64 {
            let kept = fs::read(directory.path().join("take.torn-484")).unwrap();
            assert_eq!(kept, bytes[end..], "cut before the tail was kept");
        }
        let found = options.recover(&path).unwrap();
        assert_eq!((found.kept, found.frames), (end as u64, 3));
        assert_eq!(fs::read(&path).unwrap(), bytes[..end], "{left}");
        assert_eq!(names(directory.path()), ["take", "take.torn-484"], "{left}");
        let torn = directory.path().join("take.torn-484");
        assert_eq!(fs::read(&torn).unwrap(), bytes[end..], "{left}");
        if result.is_ok() {
            break;
        }
        fs::remove_file(torn).unwrap();
        killed += 1;
    }
    assert!(killed >= 9, "{killed} steps");
}

/// A directory with one file that is recovered, as a disk with a cache has it: what was flushed is
/// certain, of the rest any part may be there after a cut of the power.
#[derive(Clone, Debug, Default)]
struct Disk {
    /// The file's length, as programs see it, and as it was flushed.
    len: (u64, u64),
    file: Vec<u8>,
    /// Content by number, as programs see it, and as it was flushed.
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<PathBuf, usize>,
    /// Changes of the directory since it was flushed, in their order, and what it was then.
    unflushed: Vec<BTreeMap<PathBuf, usize>>,
    flushed: BTreeMap<PathBuf, usize>,
    /// Every state that a kill, or a cut of the power, may have left, of all moments.
    left: Vec<Disk>,
}

impl Disk {
    /// What a cut may leave of this moment: the directory after any number of its changes (a journal
    /// keeps their order), each content flushed or not or in half, the file cut or not.
    fn cut_here(&mut self) {
        // A kill leaves everything, and nothing more of it is certain than before.
        let mut after = vec![Disk { left: Vec::new(), ..self.clone() }];
        let directories = [self.flushed.clone()].into_iter().chain(self.unflushed.clone());
        for names in directories {
            for how in 0..3 {
                for len in [self.len.0, self.len.1] {
                    let contents = self.contents.iter().map(|(seen, flushed)| {
                        let half = seen.len() / 2;
                        let kept = match how {
                            0 => flushed.clone(),
                            1 => seen.clone(),
                            _ if flushed == seen => seen.clone(),
                            _ => [&seen[..half], &vec![0; seen.len() - half]].concat(),
                        };
                        (kept.clone(), kept)
                    });
                    after.push(Disk {
                        len: (len, len),
                        file: self.file.clone(),
                        contents: contents.collect(),
                        names: names.clone(),
                        unflushed: Vec::new(),
                        flushed: names.clone(),
                        left: Vec::new(),
                    });
                }
            }
        }
        self.left.extend(after);
    }

    fn changed(&mut self) -> io::Result<()> {
        self.cut_here();
        Ok(())
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        &self.file[range.start as usize..range.end as usize]
    }
}

impl Ground for Disk {
    fn name(&self, suffix: &str) -> PathBuf {
        format!("take{suffix}").into()
    }

    fn holds(&mut self, name: &Path, tail: Range<u64>) -> io::Result<Holds> {
        Ok(match self.names.get(name) {
            None => Holds::Nothing,
            Some(number) if self.contents[*number].0 == self.bytes(tail) => Holds::These,
            Some(_) => Holds::Others,
        })
    }

    fn remove(&mut self, name: &Path) -> io::Result<()> {
        if self.names.remove(name).is_some() {
            self.unflushed.push(self.names.clone());
        }
        self.changed()
    }

    fn copy(&mut self, tail: Range<u64>, name: &Path) -> io::Result<()> {
        assert!(!self.names.contains_key(name), "made anew");
        self.contents.push((self.bytes(tail).to_vec(), Vec::new()));
        self.names.insert(name.to_path_buf(), self.contents.len() - 1);
        self.unflushed.push(self.names.clone());
        self.changed()
    }

    fn sync(&mut self, name: &Path) -> io::Result<()> {
        let (seen, flushed) = &mut self.contents[self.names[name]];
        *flushed = seen.clone();
        self.changed()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.names.remove(from).expect("it is there");
        assert!(self.names.insert(to.to_path_buf(), number).is_none(), "another's tail");
        self.unflushed.push(self.names.clone());
        self.changed()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.flushed = self.names.clone();
        self.unflushed.clear();
        self.changed()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.len.0 = len;
        self.changed()
    }

    fn unmark(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.len.1 = self.len.0;
        self.changed()
    }
}

/// At every moment the tail is in the file or beside it, under the name that says so; and from
/// whatever a kill or a cut leaves, also of a second recovery, the next ends the same way.
#[test]
fn a_cut_of_the_power_at_any_step_loses_no_byte_of_the_tail() {
    const LEN: u64 = 100;
    let tail: Vec<u8> = (60..100).collect();
    let mut disk = Disk { len: (LEN, LEN), file: (0..100).collect(), ..Disk::default() };
    disk.contents.push((b"an older tail".to_vec(), b"an older tail".to_vec()));
    disk.names.insert("take.torn-60".into(), 0);
    disk.flushed = disk.names.clone();
    let plan = |disk: &Disk| {
        let end = 60.min(disk.len.0);
        Plan { end, tail: disk.len.0, len: disk.len.0, closed: false }
    };
    let kept = |disk: &Disk| {
        disk.names.iter().any(|(name, number)| {
            name.to_str().is_some_and(|name| !name.ends_with(".part"))
                && disk.contents[*number].0 == tail
        })
    };
    let mut states = vec![disk];
    for _round in 0..2 {
        let mut next = Vec::new();
        for mut disk in states {
            disk.cut_here();
            let before = plan(&disk);
            carry_out(&mut disk, &before).unwrap();
            assert!(
                disk.len.0 == 60
                    && kept(&disk)
                    && disk.names.contains_key(Path::new("take.torn-60"))
            );
            assert_eq!(disk.contents[0].0, b"an older tail");
            let count = disk.names.len();
            let again = plan(&disk);
            assert_eq!(carry_out(&mut disk.clone(), &again).unwrap(), None, "nothing to do");
            assert!(count <= 4, "{:?}", disk.names);
            for left in std::mem::take(&mut disk.left) {
                assert!(left.len.0 == LEN || kept(&left), "lost: {left:?}");
                next.push(left);
            }
        }
        assert!(next.len() > 50);
        states = next;
    }
}

/// While a recovery was not looking somebody wrote: its prefix is not appended to as if nothing were.
#[test]
fn a_file_that_changed_since_is_not_taken_for_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take");
    let options = Options::default();
    fs::write(&path, damaged(&path)).unwrap();
    let (_, goes) = run(&options, &path).unwrap();
    let still = |goes: &Goes| {
        let below = options.below.append(&path).unwrap();
        let still = goes.is_still(&below).unwrap();
        below.close().unwrap();
        still
    };
    assert!(still(&goes));
    // Another recording of the same length, which was closed; and the same one, longer.
    let len = goes.book.position;
    let same = fs::read(&path).unwrap();
    let mut other = options.create(&path).unwrap();
    for _ in 0..3 {
        other.write(0, &[9; 100]).unwrap();
    }
    other.into_inner().close().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
    assert!(!still(&goes));
    fs::write(&path, [&same[..], b"more"].concat()).unwrap();
    assert!(!still(&goes));
    fs::write(&path, &same).unwrap();
    assert!(still(&goes));
    let mut changed = same;
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, &changed).unwrap();
    assert!(!still(&goes));
}
