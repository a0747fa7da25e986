//! Random sequences of messages against a plain file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::caller::{CREATE, Caller, name, place, rename};
use super::fences::in_force;
use writeflush::mmio::*;
use writeflush::{Direct, Drive, Options};

/// A million of these in CI: `WRITEFLUSH_MESSAGES=1000000`.
#[test]
fn random_messages_leave_what_a_plain_file_would_hold() {
    let count = std::env::var("WRITEFLUSH_MESSAGES").map_or(20_000, |n| n.parse().unwrap());
    let seed = std::env::var("WRITEFLUSH_SEED").map_or(1, |n| n.parse().unwrap());
    println!("WRITEFLUSH_SEED={seed} WRITEFLUSH_MESSAGES={count}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = count;
    while left > 0 {
        let run = left.min(random.u32(1..5000));
        let _in_force = in_force(settings(&mut random));
        Run::new(&mut random).go(run);
        left -= run;
    }
}

/// How files are opened in one run.
fn settings(random: &mut fastrand::Rng) -> Settings {
    let size = *random.choice(&[4096, 64 << 10, 1 << 20]).unwrap();
    let options = Options::new()
        .buffer_size(size)
        .buffers(random.usize(2..5))
        .direct(*random.choice(&[Direct::Auto, Direct::Off]).unwrap())
        .drive(*random.choice(&[Drive::Thread, Drive::Caller]).unwrap());
    let every = *random.choice(&[None, Some(1), Some(50), Some(1000)]).unwrap();
    let bytes = *random.choice(&[None, Some(1), Some(1000), Some(100_000)]).unwrap();
    Settings::new()
        .options(options)
        .fence_every(every.map(Duration::from_millis))
        .fence_bytes(bytes)
}

/// What a plain file would do. Pages that nobody wrote are zeros, and not kept.
#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, Box<[u8; Model::PAGE as usize]>>,
    len: u64,
    position: u64,
    /// After a SEEK to a place that was refused nothing is read or written until one has found a
    /// position.
    astray: bool,
    /// Bytes were refused: nothing is called durable any more.
    lost: bool,
}

impl Model {
    const PAGE: u64 = 4096;
    const LAST: u64 = 0xFFFF_FFFE;
    /// From here on a negative LONG is a position.
    const NEAR: u64 = (2 << 30) - (64 << 20);

    fn write(&mut self, bytes: &[u8], flush: bool) -> isize {
        if self.lost && flush {
            return -1;
        }
        if bytes.is_empty() {
            return 0;
        }
        let to = self.position + bytes.len() as u64;
        if self.astray || to > Self::LAST {
            self.lost = true;
            return -1;
        }
        self.len = self.len.max(to);
        for (at, &byte) in (self.position..).zip(bytes) {
            let page = self.pages.entry(at / Self::PAGE).or_insert_with(|| Box::new([0; 4096]));
            page[(at % Self::PAGE) as usize] = byte;
        }
        self.position = to;
        bytes.len() as isize
    }

    fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        if self.astray {
            return None;
        }
        let to = (self.position + len as u64).min(self.len).max(self.position);
        let byte = |at: u64| {
            self.pages.get(&(at / Self::PAGE)).map_or(0, |page| page[(at % Self::PAGE) as usize])
        };
        let bytes = (self.position..to).map(byte).collect();
        self.position = to;
        Some(bytes)
    }

    fn seek(&mut self, by: isize, origin: isize) -> isize {
        let target = match origin {
            0 => match i32::try_from(by) {
                Ok(wrapped) if self.len.max(self.position) >= Self::NEAR => (wrapped as u32).into(),
                _ => by as i128,
            },
            1 if self.astray && by != 0 => -1,
            1 => i128::from(self.position) + by as i128,
            2 => i128::from(self.len) - by as i128,
            _ => -1,
        };
        if (0..=i128::from(Self::LAST)).contains(&target) {
            self.position = target as u64;
            self.astray &= origin == 1;
            target as u32 as i32 as isize
        } else {
            self.astray |= origin != 1;
            -1
        }
    }
}

struct Run<'a> {
    random: &'a mut fastrand::Rng,
    dir: tempfile::TempDir,
    path: PathBuf,
    caller: Caller,
    model: Model,
    buffer: Vec<u8>,
    names: u32,
    /// It has another name than when it was opened.
    renamed: bool,
}

impl<'a> Run<'a> {
    fn new(random: &'a mut fastrand::Rng) -> Self {
        let (dir, path) = place();
        let caller = Caller::open(&name(&path), CREATE).unwrap();
        let (model, buffer) = (Model::default(), vec![0; 70_000]);
        Self { random, dir, path, caller, model, buffer, names: 0, renamed: false }
    }

    fn go(mut self, messages: u32) {
        for _ in 0..messages {
            match self.random.u32(0..1000) {
                0..500 => self.write(),
                500..600 => self.read(),
                600..800 => self.seek(),
                800..850 => self.seek_nowhere(),
                850 => self.refuse(),
                851..853 => self.leap(),
                853 => self.reopen(),
                854 => self.rename(),
                855..858 => self.fence(),
                858..870 => {
                    let unknown = self.random.u32(6..u32::MAX) | 0x4000_0000;
                    assert_eq!(self.caller.send(unknown, 1, 2), 0);
                }
                _ => assert!(self.caller.durable() <= self.model.len),
            }
            assert_eq!(self.caller.offset(), self.model.position as u32 as i32);
        }
        self.close();
        assert_holds(&self.path, &self.model);
    }

    fn len(&mut self) -> usize {
        match self.random.u32(0..20) {
            0 => 0,
            1 => self.random.usize(0..self.buffer.len()),
            _ => self.random.usize(0..600),
        }
    }

    fn write(&mut self) {
        let len = self.len();
        let bytes = &mut self.buffer[..len];
        bytes.fill_with(|| self.random.u8(..));
        let flush = self.random.u32(0..200) == 0;
        let taken = if flush { self.caller.write_flush(bytes) } else { self.caller.write(bytes) };
        assert_eq!(taken, self.model.write(bytes, flush), "at {}", self.model.position);
    }

    fn read(&mut self) {
        let len = self.len();
        let taken = self.caller.read(&mut self.buffer[..len]);
        match self.model.read(len) {
            Some(wanted) => {
                assert_eq!(taken, wanted.len() as isize);
                assert!(self.buffer[..wanted.len()] == wanted[..], "at {}", self.model.position);
            }
            None => assert_eq!(taken, -1),
        }
    }

    fn seek(&mut self) {
        let random = &mut *self.random;
        let (by, origin) = match random.u32(0..10) {
            0 => (random.isize(-5000..5000), SEEK_CUR),
            1 => (0, SEEK_END),
            2 => (random.isize(-20_000..5000), SEEK_END),
            3 => (random.isize(0..200), SEEK_SET),
            // Where something is, however far apart.
            4..8 if !self.model.pages.is_empty() => {
                let index = random.usize(0..self.model.pages.len());
                let page = *self.model.pages.keys().nth(index).unwrap();
                let at = page * Model::PAGE + random.u64(0..Model::PAGE);
                (at as u32 as i32 as isize, SEEK_SET)
            }
            _ => (random.isize(0..70_000), SEEK_SET),
        };
        let answer = self.caller.seek(by, origin);
        assert_eq!(answer, self.model.seek(by, origin as isize), "{by} {origin}");
    }

    /// Numbers that make no sense.
    fn seek_nowhere(&mut self) {
        const HOSTILE: [isize; 7] = [
            isize::MIN,
            (i32::MIN as isize).wrapping_mul(256),
            i32::MIN as isize,
            -1,
            (i32::MAX as isize).wrapping_add(1),
            (i32::MAX as isize).wrapping_mul(256),
            isize::MAX,
        ];
        let (by, origin) = (*self.random.choice(&HOSTILE).unwrap(), self.random.isize(-1..4));
        let before = self.model.position;
        let answer = self.caller.send(MMIOM_SEEK, by, origin);
        assert_eq!(answer, self.model.seek(by, origin), "{by} {origin}");
        if self.random.bool() {
            // Or nothing follows but a refusal, now and then.
            self.seek();
        } else {
            let by = before as u32 as i32 as isize;
            assert_eq!(self.caller.seek(by, SEEK_SET), self.model.seek(by, 0));
        }
    }

    /// A count that makes no sense.
    fn refuse(&mut self) {
        let count = *self.random.choice(&[-1isize, isize::MIN, i32::MIN as isize]).unwrap();
        let message = *self.random.choice(&[MMIOM_READ, MMIOM_WRITE, MMIOM_WRITEFLUSH]).unwrap();
        assert_eq!(self.caller.send(message, self.buffer.as_mut_ptr() as isize, count), -1);
        if message != MMIOM_READ {
            self.model.lost = true;
        }
    }

    /// Far away, past the end or not: around 2 and 4 GiB too.
    fn leap(&mut self) {
        if cfg!(windows) && self.renamed {
            return; // under Wine 8.0 ReOpenFile goes by the name
        }
        let near = *self.random.choice(&[self.model.len, 1 << 31, Model::LAST]).unwrap();
        let to = match self.random.u32(0..3) {
            0 => near.saturating_add(self.random.u64(0..64 << 20)),
            1 => near.saturating_sub(self.random.u64(0..100_000)),
            _ => near.saturating_add(self.random.u64(0..5 << 20)),
        };
        let by = to.min(Model::LAST) as u32 as i32 as isize;
        assert_eq!(self.caller.seek(by, SEEK_SET), self.model.seek(by, 0));
        self.write();
    }

    fn rename(&mut self) {
        self.names += 1;
        let to = self.dir.path().join(format!("take {}", self.names));
        let is_exclusive = { self.caller.info.dwFlags } & MMIO_SHAREMODE == MMIO_EXCLUSIVE;
        if cfg!(windows) && is_exclusive {
            assert_eq!(rename(&self.path, &to), MMIOERR_SHARINGVIOLATION as isize);
            return;
        }
        assert_eq!(rename(&self.path, &to), 0);
        self.path = to;
        self.renamed = true;
    }

    fn fence(&mut self) {
        let lost = self.model.lost;
        assert_eq!(self.caller.send(WFM_FENCE, 0, 0), if lost { -1 } else { 0 });
        if !lost {
            assert_eq!(self.caller.durable(), self.model.len);
        }
    }

    fn close(&mut self) {
        let answer = if self.model.lost { MMIOERR_CANNOTWRITE } else { 0 };
        assert_eq!(self.caller.close(), answer as isize, "{:?}", self.caller.last_error());
    }

    fn reopen(&mut self) {
        self.close();
        let share = *self.random.choice(&[0, MMIO_EXCLUSIVE, MMIO_DENYNONE]).unwrap();
        self.renamed = false;
        self.caller = Caller::open(&name(&self.path), MMIO_READWRITE | share).unwrap();
        self.model =
            Model { position: 0, astray: false, lost: false, ..std::mem::take(&mut self.model) };
    }
}

/// The file has the length and every page of the model, and zeros wherever else one looks.
fn assert_holds(path: &Path, model: &Model) {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), model.len);
    let pages = model.len.div_ceil(Model::PAGE);
    let neighbours = model.pages.keys().flat_map(|&page| [page, page + 1, page.saturating_sub(1)]);
    let spread = (0..64).map(|part| pages * part / 64);
    for page in neighbours.chain(spread).filter(|&page| page < pages) {
        let mut found = [0; Model::PAGE as usize];
        let len = (model.len - page * Model::PAGE).min(Model::PAGE) as usize;
        file.seek(SeekFrom::Start(page * Model::PAGE)).unwrap();
        file.read_exact(&mut found[..len]).unwrap();
        let wanted = model.pages.get(&page).map_or([0; Model::PAGE as usize], |page| **page);
        assert!(found == wanted, "page {page} of {pages}");
    }
}
