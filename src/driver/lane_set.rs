//! Sets of lanes, by their places. Of 64 idle lanes a driver sees one word.

/// Some lanes of a driver.
#[derive(Debug)]
pub(super) struct LaneSet(Box<[u64]>);

impl LaneSet {
    /// Empty, of so many places.
    pub(super) fn new(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    pub(super) fn set(&mut self, place: usize, is_in: bool) {
        match is_in {
            true => self.insert(place),
            false => self.remove(place),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The first at this place or behind it, and moves `from` past it, so that who goes through them
    /// may change the set.
    #[inline]
    pub(super) fn next(&self, from: &mut usize) -> Option<usize> {
        let mut at = *from / 64;
        let mut left = self.0.get(at)? & (!0 << (*from % 64));
        if left == 0 {
            at += 1 + self.0[at + 1..].iter().position(|&word| word != 0)?;
            left = self.0[at];
        }
        let place = at * 64 + left.trailing_zeros() as usize;
        *from = place + 1;
        Some(place)
    }

    /// Adds the lanes of a word of 64 places.
    pub(super) fn insert_word(&mut self, word: usize, lanes: u64) {
        self.0[word] |= lanes;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn all(set: &LaneSet) -> Vec<usize> {
        let mut at = 0;
        std::iter::from_fn(|| set.next(&mut at)).collect()
    }

    #[test]
    fn lanes_are_found_in_order() {
        let mut set = LaneSet::new(200);
        assert!(set.is_empty() && set.next(&mut 0).is_none() && set.next(&mut 199).is_none());
        for place in [199, 0, 63, 64, 128] {
            set.insert(place);
        }
        assert_eq!(all(&set), [0, 63, 64, 128, 199]);
        assert_eq!(set.next(&mut 65), Some(128));
        set.set(64, false);
        set.remove(0);
        set.set(1, true);
        assert_eq!(all(&set), [1, 63, 128, 199]);
        set.insert_word(1, 0b11);
        assert_eq!(all(&set), [1, 63, 64, 65, 128, 199]);
        assert_eq!(set.next(&mut 200), None);
    }
}
