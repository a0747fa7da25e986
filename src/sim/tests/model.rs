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

fn described(content: &[u8]) -> Option<u64> {
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

/// The file as it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) path: PathBuf,
    /// What was there and has to stay there: of a file that is continued or overwritten.
    pub(super) before: Vec<u8>,
    /// Whether the bytes behind the end stay.
    pub(super) recycled: bool,
    base: Vec<u8>,
    overwrites: Vec<Overwrite>,
    /// The open has returned.
    pub(super) open: bool,
    /// Headers are kept: the first bytes describe what follows.
    pub(super) headers: bool,
    pub(super) lost: u64,
}

impl Model {
    pub(super) fn new(path: &Path, before: &[u8], continued: bool, recycled: bool) -> Self {
        let base = if continued { before.to_vec() } else { Vec::new() };
        Self { path: path.into(), before: before.to_vec(), recycled, base, ..Self::default() }
    }

    pub(super) fn end(&self) -> usize {
        self.base.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.base.extend_from_slice(bytes);
    }

    pub(super) fn take_back(&mut self, len: usize) {
        self.base.truncate(self.base.len() - len);
    }

    pub(super) fn overwrite(&mut self, from: usize, bytes: &[u8]) {
        self.overwrites.push(Overwrite { from, bytes: bytes.into(), certain: false });
    }

    pub(super) fn overwrites(&self) -> usize {
        self.overwrites.len()
    }

    /// A fence over the first `count` overwrites has completed.
    pub(super) fn certain(&mut self, count: usize) {
        self.overwrites[..count].iter_mut().for_each(|overwrite| overwrite.certain = true);
    }

    /// The file after a close.
    pub(super) fn whole(&self) -> Vec<u8> {
        let mut content = self.newest();
        if self.recycled && self.before.len() > content.len() {
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
        if self.recycled {
            // What nobody has overwritten stays.
            let from = self.base.len().next_multiple_of(4096).min(self.before.len());
            assert!(content.len() >= self.before.len(), "a recycled file was cut");
            assert_eq!(content[from..self.before.len()], self.before[from..], "behind the end");
        }
        if self.headers && durable >= HEADER {
            let position = described(content).expect("a header that is whole") as usize;
            assert!(content.len() >= position, "a header describes bytes that are gone");
            self.exact(content, position);
        }
    }

    /// Every byte before `end` is one that it may be.
    fn exact(&self, content: &[u8], end: usize) {
        let newest = self.newest();
        if content[..end] == newest[..end] {
            return;
        }
        for at in (0..end).filter(|at| content[*at] != newest[*at]) {
            let may_be = self.may_be(at);
            let (found, all) = (content[at], self.base.len());
            assert!(
                may_be.contains(&found),
                "byte {at} of {end} ({all}) is {found}, not {may_be:?}"
            );
        }
    }

    /// The content if everything gets there.
    fn newest(&self) -> Vec<u8> {
        let mut content = self.base.clone();
        for overwrite in &self.overwrites {
            content[overwrite.from..][..overwrite.bytes.len()].copy_from_slice(&overwrite.bytes);
        }
        content
    }

    /// The last certain byte or any later one may show.
    fn may_be(&self, at: usize) -> Vec<u8> {
        let mut known = vec![self.base[at]];
        for overwrite in &self.overwrites {
            let Some(byte) = at.checked_sub(overwrite.from).and_then(|at| overwrite.bytes.get(at))
            else {
                continue;
            };
            if overwrite.certain {
                known.clear();
            }
            known.push(*byte);
        }
        known
    }
}
