//! Numbers that nobody else draws.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

/// Never 0. Each `RandomState` is another, from a seed of the system's; time and process beside it,
/// since some systems have a poor one when they start.
pub(crate) fn number() -> u64 {
    let moment = (SystemTime::now(), std::process::id());
    loop {
        match RandomState::new().hash_one(moment) {
            0 => {}
            number => return number,
        }
    }
}

/// As [`number`], of twice as many bits.
pub(crate) fn bond() -> [u8; 16] {
    let mut bond = [0; 16];
    bond.chunks_exact_mut(8).for_each(|half| half.copy_from_slice(&number().to_ne_bytes()));
    bond
}
