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
