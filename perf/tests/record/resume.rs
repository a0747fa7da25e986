//! A recorder that is killed, and started again.

use super::*;

/// Frames of `LEN` bytes: who wrote them, which one it is, and who again, so that half a frame shows.
fn frames<const LEN: usize>(run: u8, count: u32) -> Vec<u8> {
    let frame = |i: u32| {
        let mut frame = [run; LEN];
        frame[1..4].copy_from_slice(&i.to_be_bytes()[1..]);
        frame
    };
    (0..count).flat_map(frame).collect()
}

/// Every run is there from its first frame on, one directly behind the other.
#[track_caller]
fn assert_in_order<const LEN: usize>(data: &[u8]) {
    let (mut run, mut next) = (0, 0);
    assert_eq!(data.len() % LEN, 0);
    for (at, frame) in data.chunks(LEN).enumerate() {
        let i = u32::from_be_bytes([0, frame[1], frame[2], frame[3]]);
        assert!(frame[4..].iter().all(|byte| *byte == frame[0]), "frame {at}: {frame:?}");
        if frame[0] != run {
            assert!(frame[0] > run, "frame {at}: run {} behind {run}", frame[0]);
            (run, next) = (frame[0], 0);
        }
        assert_eq!(i, next, "frame {at} of run {run}");
        next += 1;
    }
}

/// How many kills: more at night.
fn kills() -> u8 {
    std::env::var("WRITEFLUSH_RESUMES").map_or(10, |count| count.parse().unwrap())
}

#[test]
fn after_kill_9_at_any_moment_it_goes_on_with_whole_frames() {
    let place = directory();
    // Neither divides a block: files end within a frame.
    goes_on_after_kills::<6>(&place.path().join("take.wav"), &["--bits", "24"]);
    goes_on_after_kills::<7>(&place.path().join("take.raw"), &["--frame", "7"]);
}

fn goes_on_after_kills<const LEN: usize>(path: &Path, format: &[&str]) {
    let mut random = 0x9e37_79b9_u32;
    let options = ["--resume", "--fence-every", "3ms", "--buffer-size", "64KiB"];
    let options = [&options, format].concat();
    for run in 1..=kills() {
        let mut command = record();
        let mut child = command.args(&options).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        // In pieces that are no frames, for as long as it lives.
        let mut stdin = child.stdin.take().unwrap();
        let bytes = frames::<LEN>(run, 1 << 20);
        let feeder = std::thread::spawn(move || {
            let _ = bytes.chunks(1021).try_for_each(|piece| stdin.write_all(piece));
            stdin
        });
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_micros(u64::from(random >> 16)));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(feeder.join().unwrap());
    }
    let last = frames::<LEN>(kills() + 1, 1000);
    assert_status(&fed(record().args(&options).arg(path), &last), 0);
    let file = fs::read(path).unwrap();
    let is_wav = data_begins(&file).is_some();
    let data = if is_wav { described(&file) } else { &file };
    assert_in_order::<LEN>(data);
    assert!(data.ends_with(&last));
    if is_wav {
        assert_eq!(file.len(), EXTENSIBLE + data.len());
        match Command::new("soxi").arg("-s").arg(path).output() {
            Ok(said) => {
                let frames = String::from_utf8_lossy(&said.stdout).trim().to_owned();
                assert_eq!(frames, (data.len() / LEN).to_string());
            }
            Err(_) => skip::skip("sox", "it is not installed"),
        }
    }
}

/// As a recorder in direct I/O leaves it that is killed, or whose disk is full, while two writes are under
/// way of which the later one has ended: zeros that nobody has recorded lie between.
#[test]
fn nothing_goes_on_behind_a_hole() {
    use std::os::unix::fs::FileExt;
    const NAME: &str = "nothing_goes_on_behind_a_hole";
    let place = directory();
    let path = place.path().join("take.raw");
    let before = frames::<7>(1, 20_000);
    // Behind the hole lies the second write, or nothing but a length; its space may be there, and
    // somebody may have read it; and the block before it may have been written in part only.
    let whole_block = 65_536;
    for (len, is_reserved, written) in [
        (before.len(), false, whole_block),
        (before.len(), true, whole_block),
        (73_728, false, whole_block),
        (before.len(), false, 8786 * 7),
    ] {
        let last = before[..written].iter().rposition(|byte| *byte != 0).unwrap();
        let whole = (last + 1).next_multiple_of(7).min(whole_block) / 7 * 7;
        let file = fs::File::create(&path).unwrap();
        file.write_all_at(&[&before[..written], &vec![0; whole_block - written]].concat(), 0)
            .unwrap();
        file.set_len(len as u64).unwrap();
        if len == before.len() {
            file.write_all_at(&before[131_072..], 131_072).unwrap();
        }
        if is_reserved {
            let none = rustix::fs::FallocateFlags::empty();
            let _ = rustix::fs::fallocate(&file, none, 65_536, 65_536);
        }
        let none = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, "user.writeflush", b"padding", none).is_err() {
            return skip::skip(NAME, "no user attributes here");
        }
        if rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)) != Ok(65_536) {
            return skip::skip(NAME, "no holes are told of here");
        }
        file.sync_all().unwrap();
        fs::read(&path).unwrap();
        let refused = fed(record().arg("--append").arg(&path), b"more");
        refusals::assert_refused(&refused, &format!("to {len}"));
        let resume = ["--resume", "--frame", "7"];
        assert_status(&fed(record().args(resume).arg(&path), &frames::<7>(2, 10)), 0);
        assert!(fs::read(&path).unwrap() == [&before[..whole], &frames::<7>(2, 10)].concat());
        let torn = place.path().join(format!("take.raw.torn-{whole}"));
        let kept = fs::read(&torn).unwrap();
        // Up to its last byte that is not zero.
        assert!(written < whole_block || kept[..1] == before[whole..][..1]);
        assert!(len != before.len() || kept.len() == len - whole);
        fs::remove_file(torn).unwrap();
    }
}

#[test]
fn a_rest_that_is_no_frame_is_kept_beside() {
    let place = directory();
    let path = place.path().join("take.wav");
    assert_status(&fed(record().arg(&path), &frames::<4>(1, 100)), 0);
    let mut file = fs::read(&path).unwrap();
    // Frames that no header has described yet, and half of one.
    file.extend(&frames::<4>(1, 103)[400..]);
    file.extend([7, 8, 9]);
    fs::write(&path, &file).unwrap();
    let output = fed(record().args(["--resume", "--json"]).arg(&path), &frames::<4>(2, 10));
    assert_status(&output, 0);
    let wav = fs::read(&path).unwrap();
    assert!(described(&wav) == [frames::<4>(1, 103), frames::<4>(2, 10)].concat());
    let torn = place.path().join(format!("take.wav.torn-{}", HEADER + 412));
    assert_eq!(fs::read(&torn).unwrap(), [7, 8, 9]);
    assert!(json(&output)["warnings"].to_string().contains(torn.to_str().unwrap()));
    // Another format would shift it.
    let output = fed(record().args(["--resume", "--bits", "24"]).arg(&path), b"abcdef");
    assert_status(&output, 2);
    assert!(fs::read(&path).unwrap() == wav);
    // No recording at all: left alone.
    fs::write(&path, b"a letter to somebody").unwrap();
    assert_status(&fed(record().arg("--resume").arg(&path), b"abcd"), 2);
    assert_eq!(fs::read(&path).unwrap(), b"a letter to somebody");
}
