//! Where some of the frames lie: a table of bounded size over a file of any length. No I/O.

use super::format::Entry;

/// Entries evenly spread over the frames so far: at least `stride` bytes lie between two. When it is
/// full every second one goes, and the stride doubles. Its memory is taken once.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    stride: u64,
    /// From where on the next entry is wanted.
    due: u64,
}

impl Table {
    pub(super) const MOST: usize = 1024;
    const FIRST_STRIDE: u64 = 64 << 10;

    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(Self::MOST), stride: Self::FIRST_STRIDE, due: 0 }
    }

    /// Takes note of a data frame, which lies behind all those before. Never allocates; twice a
    /// doubling of the file it moves 12 KiB.
    #[inline]
    pub(super) fn note(&mut self, entry: Entry) {
        if entry.position >= self.due {
            self.take(entry);
        }
    }

    #[cold]
    fn take(&mut self, entry: Entry) {
        if self.entries.len() == Self::MOST {
            let mut number = 0usize;
            self.entries.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride = self.stride.saturating_mul(2);
        }
        self.entries.push(entry);
        self.due = entry.position.saturating_add(self.stride);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.encode()).collect()
    }

    /// Of the payload of an index frame at `end`, as far as it makes sense: it comes from a file.
    pub(super) fn decode(bytes: &[u8], end: u64) -> Option<Self> {
        if !bytes.len().is_multiple_of(Entry::BYTES) || bytes.len() / Entry::BYTES > Self::MOST {
            return None;
        }
        let mut table = Self::new();
        table.entries.extend(bytes.chunks_exact(Entry::BYTES).map(Entry::decode));
        let rises = table
            .entries
            .is_sorted_by(|one, next| one.position < next.position && one.sequence < next.sequence);
        let last = table.entries.last().map_or(0, |entry| entry.position);
        if !rises || last > end {
            return None;
        }
        let closest = table.entries.windows(2).map(|pair| pair[1].position - pair[0].position);
        table.stride = closest.min().unwrap_or(0).max(Self::FIRST_STRIDE);
        table.due = if table.entries.is_empty() { 0 } else { last.saturating_add(table.stride) };
        Some(table)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn entry(position: u64) -> Entry {
        Entry { position, sequence: position / 10, time: position * 3 }
    }

    #[test]
    fn it_stays_small_and_even_however_long_the_file_is() {
        let mut table = Table::new();
        let memory = table.entries.as_ptr();
        const STEP: u64 = 10_000;
        for number in 0..1_000_000u64 {
            table.note(entry(64 + number * STEP));
        }
        assert_eq!(table.entries.as_ptr(), memory, "allocated");
        let entries = table.entries();
        assert!((Table::MOST / 2..=Table::MOST).contains(&entries.len()));
        let gaps = entries.windows(2).map(|pair| pair[1].position - pair[0].position);
        let (least, most) = (gaps.clone().min().unwrap(), gaps.max().unwrap());
        assert!(most <= 2 * least, "{least} to {most}");
        assert_eq!(entries[0].position, 64);
        let last = 64 + 999_999 * STEP;
        assert!(last - entries.last().unwrap().position <= most);
    }

    #[test]
    fn what_a_file_says_is_taken_only_if_it_makes_sense() {
        let mut table = Table::new();
        (0..5).for_each(|number| table.note(entry(64 + number * 100_000)));
        let bytes = table.encode();
        let again = Table::decode(&bytes, 1_000_000).unwrap();
        assert_eq!(again.entries(), table.entries());
        assert!(Table::decode(&bytes[1..], 1_000_000).is_none());
        assert!(Table::decode(&bytes, 400_000).is_none(), "behind itself");
        let twice = [bytes.clone(), bytes].concat();
        assert!(Table::decode(&twice, 1_000_000).is_none(), "does not rise");
        assert!(Table::decode(&vec![0; 24 * 1025], 1_000_000).is_none(), "too many");
        assert_eq!(Table::decode(&[], 0).unwrap().entries(), []);
    }
}
