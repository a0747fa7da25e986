//! Recoveries that are killed, and whose power is cut, before every step and behind it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::steps::{Ground, Holds};
use super::*;
use crate::frames;

/// Fails every step from one on, as if the process had been killed there.
pub(crate) struct Killed<G> {
    pub(crate) ground: G,
    pub(crate) left: usize,
}

impl<G> Killed<G> {
    pub(crate) fn step(&mut self) -> io::Result<&mut G> {
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

    fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.step()?.overwrite(at, bytes)
    }

    fn unmark(&mut self) -> io::Result<bool> {
        self.step()?.unmark()
    }

    fn unbind(&mut self) -> io::Result<()> {
        self.step()?.unbind()
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.step()?.sync_file()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A way to recover: what it would do, and the whole of it, which tells where the file ends then.
struct Way {
    name: &'static str,
    damaged: Vec<u8>,
    recovered: Vec<u8>,
    /// Where the tail begins.
    end: usize,
    plan: fn(&Arc<dyn Handle>) -> Plan,
    recover: fn(&Path) -> u64,
}

/// Three frames, a damaged one, and another.
fn framed(path: &Path) -> Way {
    let mut writer = frames::Options::default().create(path).unwrap();
    for number in 1..=5 {
        writer.write(0, &[number; 100]).unwrap();
    }
    writer.into_inner().close().unwrap();
    let mut damaged = fs::read(path).unwrap();
    let end = 64 + 3 * 140;
    damaged[end + 6] ^= 1;
    let recover = |path: &Path| {
        let found = frames::recover(path).unwrap();
        assert_eq!(found.frames, 3);
        found.kept
    };
    let recovered = damaged[..end].to_vec();
    Way { name: "frames", damaged, recovered, end, plan: frames::plan_of, recover }
}

fn judged<P: Into<Prefix>>(
    file: &Arc<dyn Handle>,
    judge: impl FnOnce(&mut Scan<'_>) -> io::Result<P>,
) -> Plan {
    let len = file.len().unwrap();
    let prefix = judge(&mut Scan::new(&**file, len)).unwrap().into();
    super::plan(&**file, len, prefix).unwrap()
}

/// Of records of ten bytes that begin with their number.
fn whole_records(scan: &mut Scan<'_>) -> io::Result<u64> {
    let (mut record, mut number) = ([0; 10], 0);
    while scan.read(&mut record)? == 10 && record[0] == number {
        number += 1;
    }
    Ok(10 * u64::from(number))
}

/// By the caller's own judge.
fn records() -> Way {
    let damaged: Vec<u8> = (0..67).map(|at| if at == 40 { 99 } else { at / 10 }).collect();
    let (plan, recover) = (
        |file: &_| judged(file, whole_records),
        |path: &Path| recover(path, whole_records).unwrap().kept,
    );
    let recovered = damaged[..40].to_vec();
    Way { name: "records", damaged, recovered, end: 40, plan, recover }
}

/// 24 bits, one channel: an odd number of bytes, and half a frame; the header describes less.
fn waves() -> Way {
    let header = |data: u8, riff: u8| {
        let mut header = Vec::from(*b"RIFF----WAVEfmt \x10\0\0\0\x01\0\x01\0");
        header.extend([0x80, 0xbb, 0, 0, 0x80, 0x32, 2, 0, 3, 0, 24, 0]);
        header.extend([&b"data"[..], &[data, 0, 0, 0]].concat());
        header[4..8].copy_from_slice(&[riff, 0, 0, 0]);
        header
    };
    let samples: Vec<u8> = (1..=17).collect();
    let damaged = [header(6, 42), samples.clone()].concat();
    let recovered = [header(15, 52), samples[..15].to_vec(), vec![0]].concat();
    let plan = |file: &_| judged(file, wave);
    let recover = |path: &Path| recover(path, wave).unwrap().kept;
    Way { name: "waves", damaged, recovered, end: 44 + 15, plan, recover }
}

/// Whatever the step was, the next recovery ends as if there had been none before.
#[test]
fn a_recovery_that_is_killed_at_any_step_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take");
    for way in [framed(&path), records(), waves()] {
        let Way { name, damaged, recovered, end, plan, recover } = way;
        let torn = directory.path().join(format!("take.torn-{end}"));
        let torn_name = format!("take.torn-{end}");
        let mut killed = 0;
        for left in 0.. {
            fs::write(&path, &damaged).unwrap();
            let locked = Locked::new(&Options::new(), &path).unwrap();
            let plan = plan(&locked.file);
            let ground = Beside::new(&path, locked.file.clone());
            let result = carry_out(&mut Killed { ground, left }, &plan);
            drop(locked);
            if fs::read(&path).unwrap() != damaged {
                let kept = fs::read(&torn).unwrap();
                assert_eq!(kept, damaged[end..], "{name}: cut before the tail was kept");
            }
            assert_eq!(recover(&path), recovered.len() as u64, "{name}");
            assert_eq!(fs::read(&path).unwrap(), recovered, "{name}, {left}");
            assert_eq!(names(directory.path()), ["take", &torn_name], "{name}, {left}");
            assert_eq!(fs::read(&torn).unwrap(), damaged[end..], "{name}, {left}");
            fs::remove_file(&torn).unwrap();
            if result.is_ok() {
                break;
            }
            killed += 1;
        }
        assert!(killed >= 9, "{name}: {killed} steps");
    }
}

/// A directory with one file that is recovered, as a disk with a cache has it: what was flushed is
/// certain, of the rest any part may be there after a cut of the power.
#[derive(Clone, Debug, Default)]
struct Disk {
    /// The file's length, as programs see it, and as it was flushed.
    len: (u64, u64),
    /// What its header describes, likewise.
    header: (u64, u64),
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
                for (len, header) in self.each_length_and_header() {
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
                        header: (header, header),
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

    fn each_length_and_header(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (len, header) = (self.len, self.header);
        [len.0, len.1].into_iter().flat_map(move |len| [(len, header.0), (len, header.1)])
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

    fn overwrite(&mut self, _: u64, bytes: &[u8]) -> io::Result<()> {
        self.header.0 = bytes[0].into();
        self.changed()
    }

    fn unmark(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn unbind(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.len.1 = self.len.0;
        self.header.1 = self.header.0;
        self.changed()
    }
}

/// At every moment the tail is in the file or beside it, under the name that says so, and a header
/// describes what is durable; and from
/// whatever a kill or a cut leaves, also of a second recovery, the next ends the same way.
#[test]
fn a_cut_of_the_power_at_any_step_loses_no_byte_of_the_tail() {
    const LEN: u64 = 100;
    let tail: Vec<u8> = (60..100).collect();
    let (len, header) = ((LEN, LEN), (50, 50)); // a header from before the last records
    let mut disk = Disk { len, header, file: (0..100).collect(), ..Disk::default() };
    disk.contents.push((b"an older tail".to_vec(), b"an older tail".to_vec()));
    disk.names.insert("take.torn-60".into(), 0);
    disk.flushed = disk.names.clone();
    let plan = |disk: &Disk| {
        let end = 60.min(disk.len.0);
        let header = if disk.header.0 == 60 { vec![] } else { vec![(0, vec![60])] };
        Plan { end, tail: disk.len.0, len: disk.len.0, closed: false, header }
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
                (disk.len.0, disk.header) == (60, (60, 60))
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
                assert!(left.header.0 == 50 || left.len.0 == 60, "not durable yet: {left:?}");
                next.push(left);
            }
        }
        assert!(next.len() > 50);
        states = next;
    }
}

#[test]
fn every_prefix_of_a_file_is_recovered_by_the_callers_judge() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take");
    // Behind the fourth record zeros, which may be padding, and then others.
    let whole: Vec<u8> = (0..40).map(|at| at / 10).chain([0; 15]).chain([7; 15]).collect();
    for len in 1..=whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let found = recover(&path, whole_records).unwrap();
        let kept = (len / 10 * 10).min(40);
        assert_eq!((found.kept as usize, found.cut as usize), (kept, len - kept));
        assert_eq!(fs::read(&path).unwrap(), whole[..kept], "{len}");
        let end = whole[kept..len].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert_eq!(found.torn.as_ref().map_or(0, |torn| torn.bytes as usize), end);
        if let Some(torn) = found.torn {
            assert_eq!(fs::read(&torn.path).unwrap(), whole[kept..kept + end]);
            fs::remove_file(torn.path).unwrap();
        }
        assert_eq!(names(directory.path()), ["take"], "{len}");
        let again = recover(&path, whole_records).unwrap();
        assert_eq!((again.kept, again.cut, again.torn), (kept as u64, 0, None));
    }
}

/// From the judgement to the append the lock is held; where the judge refuses, it is free again.
#[test]
fn nobody_gets_in_between_a_recovery_and_its_append() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take");
    fs::write(&path, [1; 50]).unwrap();
    let at_once = Options::new().lock_wait(std::time::Duration::ZERO);
    let is_locked = || matches!(at_once.append(&path), Err(Error::Locked { .. }));
    let (writer, found) = Options::new()
        .resume(&path, |_| {
            assert!(is_locked());
            Ok(20)
        })
        .unwrap();
    assert!(is_locked());
    assert_eq!((found.kept, found.torn.unwrap().bytes, writer.positions().accepted), (20, 30, 20));
    writer.close().unwrap();
    let refused = |scan: &mut Scan<'_>| -> io::Result<u64> {
        assert_eq!(scan.len(), 20);
        Err(io::Error::other("it is not mine"))
    };
    let error = Options::new().resume(&path, refused).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is left as it was: it is not mine", path.display()));
    let error = Options::new().recover(&path, |scan| Ok(scan.len() + 1)).unwrap_err();
    assert!(error.to_string().contains("has 20 bytes: a recovery can't end it at 21"), "{error}");
    assert!(!is_locked());
    // What is not there, or empty, is nothing to judge.
    let judge = |_: &mut Scan<'_>| -> io::Result<u64> { panic!("asked") };
    let missing = directory.path().join("missing");
    assert!(matches!(recover(&missing, judge), Err(Error::Io { operation: Operation::Open, .. })));
    let (writer, found) = Options::new().resume(&missing, judge).unwrap();
    assert_eq!((found, writer.positions().accepted), (Recovered::default(), 0));
    drop(writer);
    assert_eq!(recover(&missing, judge).unwrap(), Recovered::default());
}
