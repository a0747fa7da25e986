//! The caller's side for programs without winmm.

use std::io::SeekFrom;

use super::caller::{CREATE, place};
use writeflush::mmio::*;

#[test]
fn a_riff_file_is_read_by_another_reader_and_found_again_by_ours() {
    let (_dir, path) = place();
    let samples: Vec<i16> = (0..9_001).map(|i| (i * 37 % 30_000) as i16 - 15_000).collect();
    let mut file = File::create(&path).unwrap();
    let riff = file.create_list(*b"RIFF", *b"WAVE").unwrap();
    let format = file.create_chunk(*b"fmt ").unwrap();
    file.write(&[1, 0, 1, 0, 0x80, 0xbb, 0, 0, 0, 0x77, 1, 0, 2, 0, 16, 0]).unwrap();
    file.ascend(format).unwrap();
    let data = file.create_chunk(*b"data").unwrap();
    for sample in &samples {
        file.write(&sample.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    file.ascend(data).unwrap();
    let odd = file.create_chunk(*b"note").unwrap();
    file.write(b"odd").unwrap();
    file.ascend(odd).unwrap();
    file.ascend(riff).unwrap();
    file.close().unwrap();

    let mut reader = hound::WavReader::open(&path).unwrap();
    assert_eq!(reader.spec().sample_rate, 48_000);
    assert!(reader.samples::<i16>().map(Result::unwrap).eq(samples.iter().copied()));

    let mut file = File::open(&path, MMIO_READ).unwrap();
    let riff = file.descend(None).unwrap().unwrap();
    assert_eq!((riff.id, riff.list), (*b"RIFF", Some(*b"WAVE")));
    assert_eq!(u64::from(riff.size) + 8, std::fs::metadata(&path).unwrap().len());
    let mut seen = Vec::new();
    while let Some(chunk) = file.descend(Some(&riff)).unwrap() {
        seen.push((chunk.id, chunk.size));
        file.ascend(chunk).unwrap();
    }
    assert_eq!(seen, [(*b"fmt ", 16), (*b"data", 18_002), (*b"note", 3)]);
    file.close().unwrap();
}

/// On Windows no code page has all of these: the name goes by in UTF-16.
#[test]
fn a_name_in_any_script_is_taken() {
    let (dir, _) = place();
    let path = dir.path().join("dauða-запис-録音.wav");
    let mut file = File::create(&path).unwrap();
    file.write(b"here").unwrap();
    file.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"here");
    let mut found = [0; 4];
    let mut file = File::open(&path, MMIO_READ).unwrap();
    assert_eq!((file.read(&mut found).unwrap(), &found), (4, b"here"));
    file.close().unwrap();
    let answer = File::open(dir.path().join("a\0b"), MMIO_READ).unwrap_err();
    assert_eq!(answer.code, MMIOERR_CANNOTOPEN, "no message can carry that");
}

#[test]
#[cfg(windows)]
fn names_in_utf_16_are_completed_renamed_and_deleted() {
    use std::os::windows::ffi::OsStrExt;
    let (dir, path) = place();
    let to = dir.path().join("録音.wav");
    let wide = |path: &std::path::Path| path.as_os_str().encode_wide().collect::<Vec<_>>();
    let send = |flags: u32, message: u32, names: [&mut [u16; 128]; 2]| {
        let mut info = MMIOINFO { dwFlags: flags, ..MMIOINFO::default() };
        let [first, second] = names.map(|name| name.as_mut_ptr() as isize);
        // SAFETY: names of 128 units with zeros at the end.
        unsafe { io_procedure_w(&raw mut info, message, first, second) }
    };
    let buffer = |units: &[u16]| {
        let mut buffer = [0; 128];
        buffer[..units.len()].copy_from_slice(units);
        buffer
    };
    let mut nothing = [0; 128];
    std::fs::write(&path, b"here").unwrap();
    let (mut old, mut new) = (buffer(&wide(&path)), buffer(&wide(&to)));
    assert_eq!(send(0, MMIOM_RENAME, [&mut old, &mut new]), 0);
    assert_eq!(std::fs::read(&to).unwrap(), b"here");
    for flags in [MMIO_EXIST, MMIO_PARSE] {
        let mut asked = buffer(&[wide(&to), vec![u16::from(b'+')]].concat());
        assert_eq!(send(flags, MMIOM_OPEN, [&mut asked, &mut nothing]), 0);
        assert_eq!(asked[..=wide(&to).len()], [wide(&to), vec![0]].concat());
    }
    let mut broken = buffer(&[0xD800, u16::from(b'+')]);
    let answer = send(MMIO_EXIST, MMIOM_OPEN, [&mut broken, &mut nothing]);
    assert_eq!(answer, MMIOERR_CANNOTOPEN as isize, "half a character");
    assert_eq!(send(MMIO_DELETE, MMIOM_OPEN, [&mut new, &mut nothing]), 0);
    assert!(!to.exists());
}

#[test]
fn flush_sends_writeflush_with_what_is_in_the_buffer() {
    use std::sync::Mutex;
    static SEEN: Mutex<Vec<(u32, isize)>> = Mutex::new(Vec::new());
    unsafe extern "system" fn listening(
        info: *mut MMIOINFO,
        message: u32,
        first: isize,
        second: isize,
    ) -> isize {
        SEEN.lock().unwrap().push((message, second));
        // SAFETY: passed on.
        unsafe { io_procedure(info, message, first, second) }
    }
    let (_dir, path) = place();
    // SAFETY: it passes everything on to a procedure that keeps the contract.
    let mut file = unsafe { File::open_with(listening, &path, CREATE) }.unwrap();
    file.write(&[1; 100]).unwrap();
    file.flush().unwrap();
    file.write(&[2; 10_000]).unwrap();
    file.seek(SeekFrom::Start(50)).unwrap();
    file.flush().unwrap();
    file.close().unwrap();
    let seen = SEEN.lock().unwrap();
    let seen: Vec<_> = seen.iter().filter(|(message, _)| *message != MMIOM_OPEN).collect();
    assert_eq!(
        seen,
        [
            &(MMIOM_WRITEFLUSH, 100),
            &(MMIOM_WRITE, 10_000),
            &(MMIOM_SEEK, SEEK_SET as isize),
            &(MMIOM_WRITEFLUSH, 0),
            &(MMIOM_CLOSE, 0)
        ]
    );
}

/// Reads eight bytes where the other reader stands.
fn bytes_at(path: &std::path::Path, at: u64) -> [u8; 8] {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::open(path).unwrap();
    let mut bytes = [0; 8];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn past_2_gib_it_goes_on_and_at_4_it_ends_without_harm() {
    for len in [20_000, 20] {
        let (_dir, path) = place();
        let mut file = File::create(&path).unwrap();
        let riff = file.create_list(*b"RIFF", *b"RAW ").unwrap();
        let data = file.create_chunk(*b"data").unwrap();
        file.write(b"head").unwrap();
        let middle = (1 << 31) - 2;
        file.seek(SeekFrom::Start(middle)).unwrap();
        file.write(b"over").unwrap();
        file.flush().unwrap();
        file.seek(SeekFrom::Start(middle)).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(file.read(&mut bytes).unwrap(), 4);
        assert_eq!(&bytes, b"over");

        let last = 0xFFFF_FFFE - 12;
        file.seek(SeekFrom::Start(last)).unwrap();
        file.write(b"last bytes").unwrap();
        file.flush().unwrap();
        // More than the last position allows: at once, or when the buffer is sent.
        let refused = file.write(&vec![9; len]).and_then(|()| file.flush()).unwrap_err();
        assert!(refused.sentence.contains("another file"), "{refused}");
        assert_eq!(file.position(), last + 10, "the bytes were not taken");
        for _ in 0..3 {
            assert!(file.write(&vec![9; 10_000]).is_err());
            assert!(file.flush().is_err());
            assert!(file.seek(SeekFrom::Start(1 << 32)).is_err());
        }
        file.ascend(data).unwrap();
        file.ascend(riff).unwrap();
        assert_eq!(file.close().unwrap_err().code, MMIOERR_CANNOTWRITE);

        let size = |from: u64| u32::try_from(last + 10 - from).unwrap().to_le_bytes();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), last + 10);
        assert_eq!(bytes_at(&path, 0), [*b"RIFF", size(8)].concat()[..]);
        assert_eq!(bytes_at(&path, 12), [*b"data", size(20)].concat()[..]);
        assert_eq!(bytes_at(&path, 20), *b"head\0\0\0\0");
        assert_eq!(bytes_at(&path, last + 2), *b"st bytes");
    }
}

#[test]
#[ignore = "writes 3 GiB"]
fn a_recording_of_3_gib_is_whole() {
    let (_dir, path) = place();
    let mut piece = vec![0u8; 1 << 20];
    let stamp = |piece: &mut [u8], number: u64| {
        for (word, index) in piece.chunks_exact_mut(8).zip(0u64..) {
            word.copy_from_slice(
                &(number << 32 | index).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes(),
            );
        }
    };
    let mut file = File::create(&path).unwrap();
    let riff = file.create_list(*b"RIFF", *b"RAW ").unwrap();
    let data = file.create_chunk(*b"data").unwrap();
    for number in 0..3072 {
        stamp(&mut piece, number);
        file.write(&piece).unwrap();
    }
    file.ascend(data).unwrap();
    file.ascend(riff).unwrap();
    file.close().unwrap();

    let mut file = File::open(&path, MMIO_READ).unwrap();
    let riff = file.descend(None).unwrap().unwrap();
    let data = file.descend(Some(&riff)).unwrap().unwrap();
    assert_eq!((u64::from(riff.size), u64::from(data.size)), ((3 << 30) + 12, 3 << 30));
    let mut read = vec![0u8; 1 << 20];
    for number in 0..3072 {
        stamp(&mut piece, number);
        assert_eq!(file.read(&mut read).unwrap(), read.len());
        assert!(read == piece, "MiB {number}");
    }
    assert_eq!(file.read(&mut read).unwrap(), 0);
    file.close().unwrap();
}
