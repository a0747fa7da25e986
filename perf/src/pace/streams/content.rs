//! What the streams carry, and whether it is in the files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest record.
pub(super) const LONGEST: usize = 1 << 20;
/// A prime, so that no block of a file is like another.
const PERIOD: usize = 1_048_573;

/// Bytes that differ from stream to stream and from place to place.
#[derive(Debug)]
pub(super) struct Content(Vec<u8>);

impl Content {
    pub(super) fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(19);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| random.u8(..)).collect();
        bytes.extend_from_within(..LONGEST.min(PERIOD));
        bytes.extend_from_within(..LONGEST.saturating_sub(PERIOD));
        Self(bytes)
    }

    /// A record of a stream.
    pub(super) fn record(&self, stream: usize, record: u64, len: usize) -> &[u8] {
        let position = u128::from(record) * len as u128 + stream as u128 * 7919;
        let start = (position % PERIOD as u128) as usize;
        &self.0[start..start + len]
    }

    /// Whether a file holds all records of its stream but the lost ones (in order), and is as long
    /// as `whole` where that is given.
    ///
    /// # Errors
    /// What the system says, or where the file differs.
    pub(super) fn check(&self, path: &Path, expected: &Expected<'_>) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut found = vec![0; expected.len];
        let mut lost = expected.lost.iter().copied().peekable();
        for record in 0..expected.records {
            if lost.next_if_eq(&record).is_some() {
                continue;
            }
            file.read_exact(&mut found)?;
            if found != self.record(expected.stream, record, expected.len) {
                let (stream, record) = (expected.stream, record + 1);
                let sentence = format!("the file of stream {stream} differs in record {record}");
                return Err(io::Error::other(sentence));
            }
        }
        if expected.ends && file.read(&mut found)? > 0 {
            let stream = expected.stream;
            let sentence = format!("the file of stream {stream} is longer than what it was given");
            return Err(io::Error::other(sentence));
        }
        Ok(())
    }
}

/// What has to be in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) stream: usize,
    pub(super) records: u64,
    /// Bytes of a record.
    pub(super) len: usize,
    /// Records that found no room.
    pub(super) lost: &'a [u64],
    /// Nothing may follow.
    pub(super) ends: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_differs_is_found_and_one_too_few_or_too_many() {
        let (content, folder) = (Content::new(), tempfile::tempdir().unwrap());
        let path = folder.path().join("file");
        let expected = Expected { stream: 3, records: 200, len: 9000, lost: &[2, 7], ends: true };
        let kept = (0..200).filter(|record| ![2, 7].contains(record));
        let good: Vec<u8> =
            kept.flat_map(|record| content.record(3, record, 9000).to_vec()).collect();
        let says = |bytes: &[u8], expected: &Expected<'_>| {
            std::fs::write(&path, bytes).unwrap();
            content.check(&path, expected).map_err(|error| error.to_string())
        };
        assert_eq!(says(&good, &expected), Ok(()));
        let mut bad = good.clone();
        bad[1_500_000] ^= 1;
        // Byte 1,500,000 lies in the 167th record that was kept, the 169th of all.
        assert!(says(&bad, &expected).unwrap_err().contains("differs in record 169"));
        assert!(says(&good[1..], &expected).is_err());
        assert!(says(&good[..good.len() - 1], &expected).is_err());
        let longer = [&good[..], &[0]].concat();
        assert!(says(&longer, &expected).unwrap_err().contains("longer"));
        assert_eq!(says(&longer, &Expected { ends: false, ..expected }), Ok(()));
        assert!(says(&good, &Expected { stream: 2, ..expected }).is_err());
    }

    #[test]
    fn the_longest_record_has_bytes_wherever_it_begins() {
        let content = Content::new();
        for record in [0, 1, 12_345] {
            assert_eq!(content.record(4095, record, LONGEST).len(), LONGEST);
        }
    }
}
