//! How long the file is, and how long a reader may believe it to be. Pure numbers.

/// Direct I/O writes whole blocks, so that a tail leaves the file longer than its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// What was there before, or was asked for ahead: never cut.
    kept: u64,
    /// The end of the highest device write so far, or `kept`.
    now: u64,
}

impl Length {
    pub(crate) fn new(kept: u64) -> Self {
        Self { kept, now: kept }
    }

    /// A device write ends at `end`, its padding included; or the file was made so long.
    pub(crate) fn reaches(&mut self, end: u64) {
        self.now = self.now.max(end);
    }

    /// Where the padding begins, if there is any behind the `written` bytes.
    pub(crate) fn padded_from(&self, written: u64) -> Option<u64> {
        let exact = written.max(self.kept);
        (self.now > exact).then_some(exact)
    }

    pub(crate) fn cut_to(&mut self, len: u64) {
        self.now = len;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_writer_padded_is_padding() {
        let mut new = Length::new(0);
        assert_eq!(new.padded_from(0), None);
        new.reaches(4096);
        assert_eq!(new.padded_from(300), Some(300));
        assert_eq!(new.padded_from(4096), None, "a whole block");
        new.cut_to(300);
        assert_eq!(new.padded_from(300), None);

        // A recycled file, or one with space ahead.
        let mut long = Length::new(10_000);
        long.reaches(4096);
        assert_eq!(long.padded_from(300), None);
        long.reaches(12_288);
        assert_eq!(long.padded_from(9_000), Some(10_000));
        assert_eq!(long.padded_from(11_000), Some(11_000));
    }
}
