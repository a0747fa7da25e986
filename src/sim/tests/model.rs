//! What the file has to hold, whatever happens.

use std::path::{Path, PathBuf};

use super::super::Image;

/// A header keeps a position, and a number that says whether all of it is there.
pub(super) const HEADER: usize = 16;

pub(super) fn header(position: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&position.to_le_bytes());
    header[8..].copy_from_slice(&check(position).to_le_bytes());
    header
}

fn check(position: u64) -> u64 {
    position.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ 0xA5A5_5A5A_0F0F_F0F0
}

pub(super) fn described(content: &[u8]) -> Option<u64> {
    let (position, rest) = content.split_first_chunk()?;
    let position = u64::from_le_bytes(*position);
    (u64::from_le_bytes(*rest.first_chunk()?) == check(position)).then_some(position)
}

/// An overwrite, in the order in which they were asked for.
#[derive(Clone, Debug)]
struct Overwrite {
    from: usize,
    bytes: Vec<u8>,
    /// A fence over it has completed: nothing older may show.
    certain: bool,
}

impl Overwrite {
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at.checked_sub(self.from)?).copied()
    }
}

/// Where two strings of the same length are not the same: most of the time nowhere.
fn differences(found: &[u8], known: &[u8]) -> impl Iterator<Item = usize> {
    const STRIDE: usize = 256;
    let pieces = found.chunks(STRIDE).zip(known.chunks(STRIDE)).enumerate();
    let pieces = pieces.filter(|(_, (found, known))| found != known);
    pieces.flat_map(|(number, (found, known))| {
        let places =
            found.iter().zip(known).enumerate().filter(|(_, (found, known))| found != known);
        places.map(move |(at, _)| number * STRIDE + at)
    })
}

/// What becomes of the bytes behind those that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Behind {
    /// There are none.
    #[default]
    Gone,
    /// They stay.
    Stay,
    /// They may be there until the close.
    GoAtTheClose,
}

/// The file as it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) path: PathBuf,
    /// What was there and has to stay there: of a file that is continued or overwritten.
    pub(super) before: Vec<u8>,
    pub(super) behind: Behind,
    base: Vec<u8>,
    overwrites: Vec<Overwrite>,
    /// The content if everything gets there.
    newest: Vec<u8>,
    /// The open has returned.
    pub(super) open: bool,
    /// Headers are kept: the first bytes describe what follows.
    pub(super) headers: bool,
    /// So much was called durable in an answer.
    pub(super) claimed: u64,
    /// What was lost, and where: one entry for losses without an accepted byte in between.
    pub(super) lost: Vec<(u64, u64)>,
}

impl Model {
    pub(super) fn new(path: &Path, before: &[u8], continued: bool, behind: Behind) -> Self {
        let base = if continued { before.to_vec() } else { Vec::new() };
        let (path, before, newest) = (path.into(), before.to_vec(), base.clone());
        Self { path, before, behind, base, newest, ..Self::default() }
    }

    pub(super) fn end(&self) -> usize {
        self.base.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.base.extend_from_slice(bytes);
        self.newest.extend_from_slice(bytes);
    }

    /// What was offered last was taken up to here.
    pub(super) fn taken_to(&mut self, end: usize) {
        assert!(end <= self.base.len(), "more was taken than was offered");
        self.base.truncate(end);
        self.newest.truncate(end);
        for overwrite in &mut self.overwrites {
            overwrite.bytes.truncate(end.saturating_sub(overwrite.from));
        }
    }

    /// Bytes were lost at the end of what there is; where losses are filled, behind the fill bytes
    /// that are `owed` already.
    pub(super) fn lose(&mut self, len: usize, owed: Option<usize>) {
        let (at, len) = ((self.base.len() + owed.unwrap_or(0)) as u64, len as u64);
        match self.lost.last_mut() {
            Some((place, lost)) if *place + if owed.is_some() { *lost } else { 0 } == at => {
                *lost += len;
            }
            _ => self.lost.push((at, len)),
        }
    }

    /// A grant of a shared writer that was dropped.
    pub(super) fn given_up(&mut self, at: u64, len: usize) {
        match self.lost.last_mut() {
            Some((place, lost)) if *place == at => *lost += len as u64,
            _ => self.lost.push((at, len as u64)),
        }
    }

    pub(super) fn overwrite(&mut self, from: usize, bytes: &[u8]) {
        self.newest[from..from + bytes.len()].copy_from_slice(bytes);
        self.overwrites.push(Overwrite { from, bytes: bytes.into(), certain: false });
    }

    /// Bytes at any position: over what is there, behind its end, or behind a gap of zeros.
    pub(super) fn write_at(&mut self, at: usize, bytes: &[u8]) {
        let end = self.end();
        let over = bytes.len().min(end.saturating_sub(at));
        if over > 0 {
            self.overwrite(at, &bytes[..over]);
        }
        if over < bytes.len() {
            self.append(&vec![0; at.saturating_sub(end)]);
            self.append(&bytes[over..]);
        }
    }

    pub(super) fn overwrites(&self) -> usize {
        self.overwrites.len()
    }

    /// A fence over the first `count` overwrites has completed.
    pub(super) fn certain(&mut self, count: usize) {
        self.overwrites[..count].iter_mut().for_each(|overwrite| overwrite.certain = true);
    }

    /// What a read of so many bytes gives when everything asked for has got there.
    pub(super) fn read(&self, at: usize, len: usize) -> &[u8] {
        let rest = self.newest.get(at..).unwrap_or_default();
        &rest[..len.min(rest.len())]
    }

    /// Whether these bytes, here, are some that were asked for, whatever has failed since.
    pub(super) fn knows(&self, at: usize, bytes: &[u8]) -> bool {
        let mut places = (at..).zip(bytes);
        places.all(|(at, byte)| self.versions(at).any(|version| version == *byte))
    }

    /// The file after a close.
    pub(super) fn whole(&self) -> Vec<u8> {
        let mut content = self.newest.clone();
        if self.behind == Behind::Stay && self.before.len() > content.len() {
            content.extend_from_slice(&self.before[content.len()..]);
        }
        content
    }

    /// Whether an image may be what a power cut leaves when so much was durable.
    pub(super) fn check(&self, image: &Image, durable: u64) {
        let Some(content) = image.get(&self.path) else {
            assert!(!self.open, "the file is gone");
            return;
        };
        let durable = (durable as usize).min(self.base.len());
        assert!(content.len() >= durable, "{} bytes are left of {durable}", content.len());
        self.exact(content, durable);
        self.nothing_strange(content, durable);
        if self.behind == Behind::Stay {
            assert!(content.len() >= self.before.len(), "a recycled file was cut");
        }
        if self.headers && durable >= HEADER {
            let position = described(content).expect("a header that is whole") as usize;
            assert!(content.len() >= position, "a header describes bytes that are gone");
            self.exact(content, position);
        }
    }

    /// Whether a file may be what a crash of the process leaves when so much was written.
    pub(super) fn check_written(&self, content: &[u8], written: u64) {
        let written = (written as usize).min(self.base.len());
        let len = content.len();
        assert!(len >= written, "{len} bytes are in the file, {written} were written");
        self.exact(content, written);
    }

    /// Behind what is durable there may be later bytes, zeros, or what a recycled file held; never
    /// anything else.
    fn nothing_strange(&self, content: &[u8], durable: usize) {
        let has_old = self.behind != Behind::Gone || !self.open;
        let old = if has_old { &self.before[..] } else { &[] };
        let end = self.base.len().clamp(durable, content.len());
        let known = |at: usize| self.versions(at).any(|byte| byte == content[at]);
        let later = differences(&content[durable..end], &self.newest[durable..end]);
        let later = later
            .map(|at| durable + at)
            .find(|at| content[*at] != 0 && !known(*at) && old.get(*at) != Some(&content[*at]));
        // Where nobody has written, a file stays what it was.
        let rest = old.get(end..).unwrap_or_default();
        let (same, zeros) = content[end..].split_at(rest.len().min(content.len() - end));
        let kept = differences(same, &rest[..same.len()]).map(|at| end + at);
        let may_be_zero = !self.open || self.behind == Behind::GoAtTheClose;
        let kept = { kept }.find(|at| !may_be_zero || content[*at] != 0);
        let padding = zeros.iter().position(|byte| *byte != 0).map(|at| end + same.len() + at);
        if let Some(at) = later.or(kept).or(padding) {
            panic!("byte {at} behind {durable} durable ones is {}: nobody wrote that", content[at]);
        }
    }

    /// Every byte that was ever asked to be here.
    fn versions(&self, at: usize) -> impl Iterator<Item = u8> {
        let over = self.overwrites.iter().filter_map(move |overwrite| overwrite.byte(at));
        std::iter::once(self.base[at]).chain(over)
    }

    /// Every byte before `end` is one that it may be.
    fn exact(&self, content: &[u8], end: usize) {
        for at in differences(&content[..end], &self.newest[..end]) {
            let (found, all) = (content[at], self.base.len());
            assert!(
                self.may_be(at, found),
                "byte {at} of {end} ({all}) is {found}, not {:?}",
                self.versions(at).collect::<Vec<_>>()
            );
        }
    }

    /// The last certain byte or any later one may show.
    fn may_be(&self, at: usize, found: u8) -> bool {
        let mut fine = self.base[at] == found;
        for overwrite in &self.overwrites {
            if let Some(byte) = overwrite.byte(at) {
                fine = fine && !overwrite.certain || byte == found;
            }
        }
        fine
    }
}
