//! Zeros ahead of the data, written piece by piece. Pure but for the call that writes.

use std::io;

/// Bytes in a write of zeros.
pub(super) const PIECE: usize = 1 << 20;

/// Writes in a row that may get nowhere.
const MOST_FRUITLESS: u32 = 1000;

/// Why zeros were not written to the end.
#[derive(Debug)]
pub(super) enum Stopped {
    Cancelled,
    Failed(io::Error),
}

/// Writes zeros from `from` to `to`, both multiples of `block`, which is what one write keeps to.
/// `write` takes a length and a place, and says how many bytes it has written.
pub(super) fn zero(
    (from, to): (u64, u64),
    block: u64,
    is_cancelled: impl Fn() -> bool,
    mut write: impl FnMut(usize, u64) -> io::Result<usize>,
) -> Result<(), Stopped> {
    let (mut at, mut fruitless) = (from, 0);
    while at < to {
        if is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let len = (PIECE as u64).min(to - at) as usize;
        let written = match write(len, at) {
            Ok(0) => return Err(Stopped::Failed(io::ErrorKind::WriteZero.into())),
            Ok(written) => written as u64 / block * block,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(Stopped::Failed(error)),
        };
        fruitless = if written == 0 { fruitless + 1 } else { 0 };
        if fruitless > MOST_FRUITLESS {
            let sentence = "writes of zeros get nowhere: each ends within its first block";
            return Err(Stopped::Failed(io::Error::new(io::ErrorKind::WriteZero, sentence)));
        }
        at += written;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every write takes `most` bytes at the most; returns where each began.
    fn written(range: (u64, u64), block: u64, most: usize) -> (Vec<u64>, Result<(), Stopped>) {
        let mut places = Vec::new();
        let result = zero(
            range,
            block,
            || false,
            |len, at| {
                places.push(at);
                Ok(len.min(most))
            },
        );
        (places, result)
    }

    #[test]
    fn short_writes_go_on_where_they_ended() {
        let (places, result) = written((0, 16384), 4096, 4096);
        assert_eq!(places, [0, 4096, 8192, 12288]);
        result.unwrap();
        let (places, result) = written((0, 16384), 4096, 6000);
        assert_eq!(places, [0, 4096, 8192, 12288], "only whole blocks count");
        result.unwrap();
        let (places, result) = written((4096, 3 << 20), 1, PIECE);
        assert_eq!(places, [4096, 4096 + (1 << 20), 4096 + (2 << 20)]);
        result.unwrap();
    }

    #[test]
    fn writes_that_get_nowhere_end_in_an_error() {
        for most in [0, 1, 4095] {
            let (places, result) = written((0, 16384), 4096, most);
            let Err(Stopped::Failed(error)) = result else { panic!("{result:?}") };
            assert_eq!(error.kind(), io::ErrorKind::WriteZero);
            assert!(places.len() <= MOST_FRUITLESS as usize + 1);
        }
        let interrupted = |_: usize, _: u64| Err(io::ErrorKind::Interrupted.into());
        let result = zero((0, 4096), 1, || false, interrupted);
        assert!(matches!(result, Err(Stopped::Failed(_))), "{result:?}");
    }

    #[test]
    fn who_calls_it_off_is_heard_between_two_writes() {
        let writes = std::cell::Cell::new(0);
        let result = zero(
            (0, 64 << 20),
            1,
            || writes.get() == 3,
            |len, _| {
                writes.set(writes.get() + 1);
                Ok(len)
            },
        );
        assert!(matches!(result, Err(Stopped::Cancelled)) && writes.get() == 3, "{result:?}");
    }
}
