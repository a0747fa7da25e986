//! The log of a disk of the virtual machine (`tests/devices`), as QEMU's blklogwrites keeps it in the
//! format of Linux's dm-log-writes, read as a log of our own. Pure.
//!
//! All numbers are little-endian. At 0 a superblock: magic, version and number of entries (u64),
//! and the size S of the log's sectors (u32). From S on the entries, one behind the other: sector,
//! sectors, flags, length of data (u64), filled up to S, and behind that the data.
//!
//! An entry is made when the device has completed it, so a write has *one* stamp here, and a flush
//! covers every entry before it: a write that was still in flight when the flush arrived, and
//! completed before it, counts as covered. What overlaps in time is the other rig's part. FUA that
//! QEMU honours is a write with a flush behind it; what it drops is a plain write.

use anyhow::{Context, bail, ensure};

use crate::log::{Claim, Flush, Log, Moment, Write};

const MAGIC: u64 = 0x006A_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// What a log says of a disk. From `claims` on no file system lies there but claims, a block each.
pub(crate) fn read(bytes: &[u8], claims: u64) -> anyhow::Result<Log> {
    let mut log = Log::default();
    if bytes.is_empty() {
        return Ok(log); // nobody wrote
    }
    let number = |at: usize| -> anyhow::Result<u64> {
        let bytes = bytes.get(at..at + 8).context("the log ends too early")?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    };
    ensure!(number(0)? == MAGIC && number(8)? == 1, "this is no log of writes");
    let (count, size) = (number(16)?, number(24)? as u32 as usize);
    ensure!(size.is_power_of_two(), "the log has sectors of {size} bytes");
    let mut at = size;
    for _ in 0..count {
        let place = number(at)? * size as u64;
        let (len, flags) = (number(at + 8)? as usize * size, number(at + 16)?);
        ensure!(flags & MARK == 0, "marks are not expected here");
        at += size;
        let arrived = stamp(&mut log);
        if flags & FLUSH != 0 {
            ensure!(len == 0, "a flush with data is not expected here");
            let completed = Some(stamp(&mut log));
            log.flushes.push(Flush { arrived, completed });
            continue;
        }
        let data = match flags & DISCARD {
            0 => bytes.get(at..at + len).context("the log ends too early")?.to_vec(),
            _ => vec![0; len],
        };
        at += if flags & DISCARD == 0 { len } else { 0 };
        if place >= claims {
            log.claims.push(Claim { said: arrived, text: text(&data)? });
        } else if len > 0 {
            ensure!(
                place + len as u64 <= claims,
                "a write reaches over the end of the file system"
            );
            let completed = Some(stamp(&mut log));
            log.writes.push(Write { at: place, bytes: data, arrived, completed });
        }
    }
    Ok(log)
}

fn stamp(log: &mut Log) -> Moment {
    log.end += 1;
    log.end - 1
}

/// A claim is a line; the rest of its block is zeros.
fn text(block: &[u8]) -> anyhow::Result<String> {
    let line = block.split(|byte| *byte == 0).next().unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("what lies where claims are is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Cut;

    fn entry(sector: u64, data: &[u8], flags: u64) -> Vec<u8> {
        let numbers = [sector, data.len() as u64 / 512, flags, 0];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes.extend(data);
        bytes
    }

    fn log(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [MAGIC, 1, entries.len() as u64, 512].iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes.extend(entries.concat());
        bytes
    }

    #[test]
    fn a_write_is_durable_behind_a_flush_and_a_claim_is_said_where_it_stands() {
        let mut claim = b"\"begun\"".to_vec();
        claim.resize(512, 0);
        let bytes = log(&[
            entry(3, &[7; 1024], 0),
            entry(0, &[], FLUSH),
            entry(2048, &claim, 0),
            entry(5, &[8; 512], 0),
        ]);
        let log = read(&bytes, 1 << 20).unwrap();
        assert_eq!((log.writes.len(), log.flushes.len(), log.claims.len()), (2, 1, 1));
        assert_eq!((log.writes[0].at, log.writes[0].bytes.len()), (3 * 512, 1024));
        assert_eq!(log.claims[0].text, "\"begun\"");
        assert_eq!(log.cut(log.end), Cut { durable: vec![0], volatile: vec![1] });
        assert_eq!(log.cut(log.claims[0].said).durable, [0]);
        assert_eq!(log.cut(log.flushes[0].arrived).durable, [0; 0]);
    }

    #[test]
    fn what_is_no_log_is_an_error() {
        assert!(read(&[1; 600], 1 << 20).is_err());
        let mut cut = log(&[entry(3, &[7; 1024], 0)]);
        cut.truncate(1200);
        assert!(read(&cut, 1 << 20).is_err());
        assert_eq!(read(&[], 1 << 20).unwrap().end, 0);
    }
}
