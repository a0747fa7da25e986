//! The smallest memory that loses nothing. Pure: the taking is the caller's.

/// Where the search begins and ends.
pub(crate) const LEAST: u64 = 64 << 10;
pub(crate) const MOST: u64 = 1 << 30;

/// The smallest that lost nothing, if any did; each that was tried, and what it lost.
pub(crate) type Found = (Option<u64>, Vec<(u64, u64)>);

/// Doubles until nothing is lost, then narrows down between the last two in eighths. `lost` says
/// what a memory loses; `None` ends the search (interrupted).
pub(crate) fn smallest(least: u64, mut lost: impl FnMut(u64) -> Option<u64>) -> Option<Found> {
    let mut tried = Vec::new();
    let mut loses = |memory: u64| {
        let bytes = lost(memory)?;
        tried.push((memory, bytes));
        Some(bytes > 0)
    };
    let mut memory = least;
    while loses(memory)? {
        if memory >= MOST {
            return Some((None, tried));
        }
        memory *= 2;
    }
    if memory == least {
        return Some((Some(memory), tried));
    }
    // In eighths of the size that failed: from 8 (fails) to 16 (does not).
    let eighth = memory / 16;
    let (mut fails, mut holds) = (8, 16);
    while holds - fails > 1 {
        let middle = (fails + holds) / 2;
        if loses(eighth * middle)? { fails = middle } else { holds = middle }
    }
    Some((Some(eighth * holds), tried))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_need(need: u64) -> Found {
        smallest(LEAST, |memory| Some(need.saturating_sub(memory))).unwrap()
    }

    #[test]
    fn it_is_found_within_an_eighth_of_a_doubling() {
        for need in [1, LEAST, LEAST + 1, 100_000, 1 << 20, 5_000_000, MOST] {
            let found = with_need(need).0.unwrap();
            assert!(found >= need, "{need}: {found}");
            assert!(found == LEAST || (found as f64) < need as f64 * 1.13, "{need}: {found}");
            assert!(found.is_multiple_of(4096));
        }
    }

    #[test]
    fn what_nothing_holds_is_said_after_a_few_tries() {
        let (found, tried) = with_need(u64::MAX);
        assert_eq!((found, tried.len()), (None, 15));
        assert!(with_need(5_000_000).1.len() < 12);
    }

    #[test]
    fn an_interruption_ends_it() {
        assert!(smallest(LEAST, |_| None).is_none());
    }
}
