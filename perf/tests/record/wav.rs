//! WAV files that are longer, wider, gone on with, or come from the input.

use super::*;

/// A WAV file of 16 bits stereo as other programs write it: 44 bytes before the data.
fn foreign(data: &[u8], said: u32, behind: &[u8]) -> Vec<u8> {
    let mut wav = Vec::from(*b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
    wav.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
    wav.extend(b"data");
    wav.extend(said.to_le_bytes());
    wav.extend(data);
    wav.extend(behind);
    let riff = said.saturating_add(36);
    wav[4..8].copy_from_slice(&riff.to_le_bytes());
    wav
}

#[test]
fn a_wav_file_on_the_input_gives_its_format_and_no_noise() {
    let place = directory();
    let data = pattern(40_000);
    for (name, input) in [
        ("exact", foreign(&data, 40_000, b"LIST\x04\0\0\0abcd")),
        ("sox into a pipe", foreign(&data, 0x7fff_f000, b"")),
        ("ffmpeg into a pipe", foreign(&data, u32::MAX, b"")),
        ("unknown", foreign(&data, 0, b"")),
    ] {
        let path = place.path().join(name);
        let output = fed(record().args(["--wav", "--json"]).arg(&path), &input);
        assert_status(&output, 0);
        assert!(described(&fs::read(&path).unwrap()) == data, "{name}");
        assert_eq!(json(&output)["wav"]["rate_hz"], 48_000);
        // The bytes as they are.
        let raw = place.path().join("raw.wav");
        assert_status(&fed(record().args(["--raw", "--force"]).arg(&raw), &input), 0);
        assert!(fs::read(&raw).unwrap() == input);
    }
    let path = place.path().join("take.wav");
    let input = foreign(&data, 40_000, b"");
    let output = fed(record().args(["--channels", "1"]).arg(&path), &input);
    assert_status(&output, 2);
    assert!(
        stderr(&output).contains("2 × 16 bit at 48000 Hz: leave --rate"),
        "{}",
        stderr(&output)
    );
    let mut mp3 = input;
    mp3[20] = 0x55;
    let output = fed(record().arg(&path), &mp3);
    assert_status(&output, 2);
    assert!(stderr(&output).contains("--raw"), "{}", stderr(&output));
    assert!(!path.exists());
}

#[test]
fn wide_and_floating_samples_are_read_by_sox() {
    let place = directory();
    for (options, sox, len) in [
        (&["--channels", "6", "--bits", "24"][..], &["-b", "24", "-e", "signed"][..], 18 * 1000),
        (&["--float", "--channels", "1"], &["-b", "32", "-e", "floating-point"], 4 * 1000),
        (&["--bits", "32", "--rate", "44.1k"], &["-b", "32", "-e", "signed"], 8 * 1000),
        (&["--bits", "8", "--channels", "1"], &["-b", "8", "-e", "unsigned"], 1001),
    ] {
        let path = place.path().join("take.wav");
        // As numbers these are samples of float, too.
        let bytes: Vec<u8> =
            (0..len / 4 + 1).flat_map(|i| (i as f32 / 32768.0).to_le_bytes()).take(len).collect();
        assert_status(&fed(record().args(options).arg("--force").arg(&path), &bytes), 0);
        assert!(described(&fs::read(&path).unwrap()) == bytes, "{options:?}");
        let decoded =
            Command::new("sox").arg(&path).args(["-t", "raw"]).args(sox).arg("-").output();
        match decoded {
            Ok(decoded) => assert!(decoded.stdout == bytes, "{options:?}: {}", stderr(&decoded)),
            Err(_) => skip::skip("sox", "it is not installed"),
        }
    }
}

#[test]
fn a_wav_file_is_gone_on_with() {
    let place = directory();
    let path = place.path().join("take.wav");
    let bytes = pattern(3000);
    let go_on = |options: &[&str], bytes: &[u8]| fed(record().args(options).arg(&path), bytes);
    // From nothing, behind an odd end with its pad byte, and in the format that it has.
    assert_status(&go_on(&["--append", "--bits", "24", "--channels", "1"], &bytes[..999]), 0);
    assert_eq!(fs::read(&path).unwrap().len(), EXTENSIBLE + 1000);
    assert_status(&go_on(&["--append"], &bytes[999..1998]), 0);
    assert!(described(&fs::read(&path).unwrap()) == &bytes[..1998]);
    // At a frame, and at a time.
    let at = (EXTENSIBLE + 300).to_string();
    assert_status(&go_on(&["--append-at", &at], &bytes[300..600]), 0);
    assert!(described(&fs::read(&path).unwrap()) == &bytes[..600]);
    assert_status(&go_on(&["--append-at", "2ms"], b""), 0);
    assert!(described(&fs::read(&path).unwrap()) == &bytes[..96 * 3]);
    let whole = fs::read(&path).unwrap();
    for (options, word) in [
        (&["--append", "--rate", "44.1k"][..], "leave --rate"),
        (&["--append-at", "80"], "begin at 104 bytes"),
        (&["--append-at", "105"], "no whole number of frames"),
        (&["--append-at", "1h"], "has 392 bytes"),
        (&["--append", "--frame", "3"], "leave it out"),
    ] {
        let output = go_on(options, &bytes);
        assert_status(&output, 2);
        assert!(stderr(&output).contains(word), "no '{word}' in: {}", stderr(&output));
    }
    assert!(fs::read(&path).unwrap() == whole);
    // What somebody else has made, as far as it says.
    fs::write(&path, foreign(&bytes[..400], 400, b"")).unwrap();
    assert_status(&go_on(&["--append"], &bytes[400..800]), 0);
    assert!(fs::read(&path).unwrap() == foreign(&bytes[..800], 800, b""));
    fs::write(&path, foreign(&bytes[..400], 400, b"LIST\x04\0\0\0abcd")).unwrap();
    let output = go_on(&["--append"], &bytes);
    assert_status(&output, 2);
    assert!(stderr(&output).contains("--append-at 444"), "{}", stderr(&output));
    fs::write(&path, b"no header").unwrap();
    assert_status(&go_on(&["--append"], &bytes), 2);
    assert_eq!(fs::read(&path).unwrap(), b"no header");
}

#[test]
fn a_duration_is_exact_to_the_frame() {
    let place = directory();
    let path = place.path().join("take.wav");
    let bytes = pattern(48_000 * 4);
    let (child, stdin) = begin(record().args(["--duration", "500ms"]).arg(&path), &bytes);
    assert_status(&ended(child), 0);
    drop(stdin);
    assert!(described(&fs::read(&path).unwrap()) == &bytes[..24_000 * 4]);
    // A raw one ends by the clock.
    let path = place.path().join("take.raw");
    let (child, stdin) = begin(record().args(["--duration", "50ms"]).arg(&path), &bytes[..1000]);
    assert_status(&ended(child), 0);
    drop(stdin);
    assert!(bytes.starts_with(&fs::read(&path).unwrap()));
}

#[test]
fn a_fifo_is_opened_again() {
    let place = directory();
    let (fifo, path) = (place.path().join("fifo"), place.path().join("take.wav"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut command = record();
    command.args(["--reopen", "--fence-every", "2ms", "--json", "--input"]).args([&fifo, &path]);
    let child = command.spawn().unwrap();
    let bytes = pattern(24_000);
    // More writers than there are pieces; the second one ends within a frame, another one says nothing.
    for (i, part) in bytes.chunks(1000).enumerate() {
        let mut part = part.to_vec();
        if i == 1 {
            part.extend([7; 3]);
        }
        let said = [0, u32::MAX, 1000][i % 3];
        fs::write(&fifo, foreign(&part, said, b"")).unwrap();
        until_described(&path, 1000 * (i + 1));
        if i == 2 {
            fs::write(&fifo, b"").unwrap();
        }
    }
    signal(&child, "-TERM");
    let output = ended(child);
    assert_status(&output, 0);
    assert!(described(&fs::read(&path).unwrap()) == bytes);
    assert!(json(&output)["warnings"].to_string().contains("its last 3 bytes are left out"));
}
