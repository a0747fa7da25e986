//! What is written: every byte follows from its position, or its place in a record, so that a judge
//! needs nothing but claims.

/// The header: two numbers, which a checkpoint keeps true.
pub(crate) const HEADER: usize = 16;

pub(crate) fn name(take: u64) -> String {
    format!("take-{take}")
}

/// Of the segments of a take.
pub(crate) fn pattern(take: u64) -> String {
    format!("take-{take}-{{seq}}")
}

/// Of a segment of a take, the first of which has number 1.
pub(crate) fn segment(take: u64, number: usize) -> String {
    format!("take-{take}-{number}")
}

/// The name that a take gets when it is complete.
pub(crate) fn kept(take: u64) -> String {
    format!("kept-{take}")
}

/// The directory of a take that does not stay where it is, and its other name, or the directory that
/// it moves into.
pub(crate) fn home(take: u64) -> String {
    format!("home-{take}")
}

pub(crate) fn away(take: u64) -> String {
    format!("away-{take}")
}

/// The byte at a position: never zero, and another in every recording. Each sector differs from
/// every other, and repeats itself, so that file systems find something to compress.
pub(crate) fn byte(seed: u64, position: u64) -> u8 {
    const SECTOR: u64 = 512;
    const REPEATS: u64 = 128;
    let place = position / SECTOR * SECTOR + position % REPEATS;
    let mixed = (place ^ seed.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 56) as u8).max(1)
}

/// The byte that a patch puts at a position: the first of a recording has number 1.
pub(crate) fn patched(seed: u64, number: u64, position: u64) -> u8 {
    byte(seed.wrapping_add(number.wrapping_mul(0xA24B_AED4_963E_E407)), position)
}

/// What a file held before it was recorded to: as little zero as anything else.
pub(crate) fn old(seed: u64, len: u64) -> Vec<u8> {
    bytes(!seed, 0, len as usize)
}

pub(crate) fn bytes(seed: u64, from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|position| byte(seed, position)).collect()
}

/// What tells the records of several producers apart, who don't know where theirs will lie: the
/// bytes of one are those of a recording with this seed, from 0 on.
pub(crate) fn salt(seed: u64, producer: u64, number: u64) -> u64 {
    let unique = producer << 32 | (number + 1);
    seed.wrapping_add(unique.wrapping_mul(0xC2B2_AE3D_27D4_EB4F)).max(1)
}

/// A position, and a number that says whether all of it is there.
pub(crate) fn header(position: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&position.to_le_bytes());
    header[8..].copy_from_slice(&check(position).to_le_bytes());
    header
}

fn check(position: u64) -> u64 {
    position.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ 0xA5A5_5A5A_0F0F_F0F0
}

/// `None`: it is damaged.
pub(crate) fn position(header: &[u8; HEADER]) -> Option<u64> {
    let (position, sum) = header.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let position = number(position);
    (check(position) == number(sum)).then_some(position)
}
