//! The messages of MMIO against the contract of `mmsystem.h`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::SeekFrom;
use std::path::Path;

use writeflush::mmio::*;

/// A caller that sends messages by hand.
struct Caller {
    info: MMIOINFO,
}

impl Caller {
    fn open(name: &str, flags: u32) -> Result<Self, isize> {
        let mut caller = Self { info: MMIOINFO { dwFlags: flags, ..MMIOINFO::default() } };
        let name = CString::new(name).unwrap();
        match caller.send(MMIOM_OPEN, name.as_ptr() as isize, 0) {
            0 => Ok(caller),
            code => Err(code),
        }
    }

    fn send(&mut self, message: u32, first: isize, second: isize) -> isize {
        // SAFETY: every test passes live buffers with their lengths.
        unsafe { io_procedure(&raw mut self.info, message, first, second) }
    }

    fn write(&mut self, bytes: &[u8]) -> isize {
        self.send(MMIOM_WRITE, bytes.as_ptr() as isize, bytes.len() as isize)
    }

    fn read(&mut self, bytes: &mut [u8]) -> isize {
        self.send(MMIOM_READ, bytes.as_mut_ptr() as isize, bytes.len() as isize)
    }

    fn seek(&mut self, by: isize, origin: i32) -> isize {
        self.send(MMIOM_SEEK, by, origin as isize)
    }

    fn durable(&mut self) -> u64 {
        let mut position = 0u64;
        assert_eq!(self.send(WFM_DURABLE, &raw mut position as isize, 0), 0);
        position
    }

    fn last_error(&mut self) -> (isize, String) {
        let mut text = [0u8; 512];
        let code = self.send(WFM_LAST_ERROR, text.as_mut_ptr() as isize, text.len() as isize);
        let len = text.iter().position(|&byte| byte == 0).unwrap();
        (code, String::from_utf8_lossy(&text[..len]).into())
    }

    fn offset(&self) -> i32 {
        self.info.lDiskOffset
    }

    fn close(&mut self) -> isize {
        self.send(MMIOM_CLOSE, 0, 0)
    }
}

fn name(path: &Path) -> String {
    format!("{}+", path.display())
}

fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take.wav");
    (dir, path)
}

const CREATE: u32 = MMIO_CREATE | MMIO_READWRITE;

#[test]
fn write_and_writeflush_answer_the_bytes_taken_and_move_the_offset() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.offset(), 0);
    assert_eq!(caller.write(b"hello "), 6);
    assert_eq!(caller.offset(), 6);
    let bytes = b"world";
    let taken = caller.send(MMIOM_WRITEFLUSH, bytes.as_ptr() as isize, 5);
    assert_eq!((taken, caller.offset()), (5, 11));
    assert_eq!(caller.durable(), 11);
    assert_eq!(caller.send(MMIOM_WRITEFLUSH, 0, 0), 0);
    assert_eq!(caller.close(), 0);
    assert_eq!(std::fs::read(path).unwrap(), b"hello world");
}

#[test]
fn seeks_overwrites_gaps_and_reads_are_those_of_a_file() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(&[7; 100]), 100);
    assert_eq!(caller.seek(40, SEEK_SET), 40);
    assert_eq!(caller.write(b"abcd"), 4);
    assert_eq!(caller.seek(-2, SEEK_CUR), 42);
    let mut bytes = [0; 4];
    assert_eq!(caller.read(&mut bytes), 4);
    assert_eq!(&bytes, b"cd\x07\x07");
    assert_eq!(caller.seek(10, SEEK_END), 90, "from the end, backwards");
    assert_eq!(caller.seek(-2048, SEEK_END), 2148);
    assert_eq!(caller.write(b"x"), 1);
    assert_eq!(caller.seek(0, SEEK_END), 2149);
    assert_eq!(caller.read(&mut bytes), 0, "at the end of the file");
    assert_eq!(caller.seek(99, SEEK_SET), 99);
    assert_eq!(caller.read(&mut bytes), 4);
    assert_eq!(bytes, [7, 0, 0, 0]);
    assert_eq!(caller.close(), 0);
    let content = std::fs::read(path).unwrap();
    assert_eq!(content.len(), 2149);
    assert!(content[100..2148].iter().all(|&byte| byte == 0));
}

#[test]
fn open_says_what_is_wrong() {
    let (dir, path) = place();
    let missing = name(&path);
    let wanted = [
        (missing.clone(), MMIO_READ, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_WRITE, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_DELETE, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_EXIST, MMIOERR_FILENOTFOUND),
        (format!("{}/nowhere/take.wav", dir.path().display()), CREATE, MMIOERR_PATHNOTFOUND),
        (format!("{}part", missing), CREATE, MMIOERR_CANNOTOPEN),
        (name(dir.path()), CREATE, MMIOERR_CANNOTOPEN),
        (missing.clone(), MMIO_CREATE | 3, MMIOERR_CANNOTOPEN),
    ];
    for (name, flags, code) in wanted {
        assert_eq!(Caller::open(&name, flags).err(), Some(code as isize), "{name} {flags:#x}");
    }
    let mut nobody = Caller { info: MMIOINFO::default() };
    assert_eq!(nobody.send(MMIOM_OPEN, 0, 0), MMIOERR_CANNOTOPEN as isize);
    // SAFETY: null is allowed.
    let answer = unsafe { io_procedure(std::ptr::null_mut(), MMIOM_OPEN, 0, 0) };
    assert_eq!(answer, MMIOERR_CANNOTOPEN as isize);

    let mut first = Caller::open(&missing, CREATE).unwrap();
    assert_eq!(
        Caller::open(&missing, CREATE).err(),
        Some(MMIOERR_SHARINGVIOLATION as isize),
        "one writer a file"
    );
    assert_eq!(
        Caller::open(&missing, MMIO_READ | MMIO_DENYWRITE).err(),
        Some(MMIOERR_SHARINGVIOLATION as isize)
    );
    let mut reader = Caller::open(&missing, MMIO_READ | MMIO_DENYNONE).unwrap();
    assert_eq!(reader.write(b"x"), -1);
    assert_eq!(reader.close(), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(first.close(), 0);
    assert!(Caller::open(&missing, MMIO_EXIST).is_ok());
    assert!(Caller::open(&missing, MMIO_DELETE).is_ok());
    assert!(!path.exists());
}

#[test]
fn rename_parse_and_messages_nobody_knows() {
    let (dir, path) = place();
    Caller::open(&name(&path), CREATE).unwrap().close();
    let (from, to) = (CString::new(name(&path)).unwrap(), dir.path().join("kept.wav"));
    let to_name = CString::new(name(&to)).unwrap();
    let rename = |from: &CString, to: &CString| {
        // SAFETY: RENAME may come without an MMIOINFO; both names end with a zero.
        unsafe {
            let (from, to) = (from.as_ptr() as isize, to.as_ptr() as isize);
            io_procedure(std::ptr::null_mut(), MMIOM_RENAME, from, to)
        }
    };
    assert_eq!(rename(&from, &to_name), 0);
    assert!(to.exists() && !path.exists());
    assert_eq!(rename(&from, &to_name), MMIOERR_FILENOTFOUND as isize);

    let mut buffer = [0u8; 128];
    buffer[..9].copy_from_slice(b"take.wav+");
    let mut parse = Caller { info: MMIOINFO { dwFlags: MMIO_PARSE, ..MMIOINFO::default() } };
    assert_eq!(parse.send(MMIOM_OPEN, buffer.as_mut_ptr() as isize, 0), 0);
    let text = String::from_utf8_lossy(&buffer);
    let full = std::path::absolute("take.wav").unwrap();
    assert_eq!(text.trim_end_matches('\0'), full.to_str().unwrap());

    assert_eq!(parse.send(MMIOM_USER + 77, 1, 2), 0);
    assert_eq!(parse.send(77, 1, 2), 0);
}

#[test]
fn handles_that_are_not_open_get_an_error() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    let copy = caller.info;
    assert_eq!(caller.close(), 0);
    assert_eq!(caller.close(), MMIOERR_CANNOTCLOSE as isize, "twice");
    for word in [0, copy.adwInfo[0], 12, u32::MAX] {
        let mut stranger = Caller { info: copy };
        stranger.info.adwInfo[0] = word;
        assert_eq!(stranger.write(b"x"), -1);
        assert_eq!(stranger.seek(0, SEEK_SET), -1);
        assert_eq!(stranger.send(WFM_FENCE, 0, 0), -1);
        assert_eq!(stranger.send(WFM_DURABLE, 0, 0), -1);
        assert_eq!(stranger.close(), MMIOERR_CANNOTCLOSE as isize);
    }
    for message in [MMIOM_READ, MMIOM_WRITE, MMIOM_WRITEFLUSH, MMIOM_SEEK, MMIOM_CLOSE, WFM_FENCE] {
        // SAFETY: null is allowed.
        let answer = unsafe { io_procedure(std::ptr::null_mut(), message, 0, 1) };
        assert_ne!(answer, 0);
    }
}

/// winmm hides the −1 of a WRITE: CLOSE has to repeat it.
#[test]
fn every_refused_write_is_told_again_at_close() {
    let (_dir, path) = place();
    for count in [-1isize, isize::MIN, 1 << 31] {
        let mut caller = Caller::open(&name(&path), CREATE).unwrap();
        assert_eq!(caller.write(b"kept"), 4);
        assert_eq!(caller.send(MMIOM_WRITE, b"lost".as_ptr() as isize, count), -1);
        assert_eq!(caller.offset(), 4, "an error moves nothing");
        let (code, sentence) = caller.last_error();
        assert_eq!(code, MMIOERR_CANNOTWRITE as isize);
        assert!(sentence.contains("can't be taken"), "{sentence}");
        assert_eq!(caller.write(b" on"), 3);
        assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
        let (_, sentence) = caller.last_error();
        assert!(sentence.contains("can't be taken"), "after the close too: {sentence}");
        assert_eq!(std::fs::read(&path).unwrap(), b"kept on");
    }
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.send(MMIOM_WRITE, 0, 4), -1, "no buffer");
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
}

#[test]
fn positions_past_2_gib_wrap_and_end_before_4() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    // As winmm sends it: a LONG that has wrapped.
    let far = 3_000_000_000u32;
    assert_eq!(caller.seek(far as i32 as isize, SEEK_SET), far as i32 as isize);
    assert_eq!(caller.write(b"far"), 3);
    assert_eq!(caller.offset(), (far + 3) as i32);
    if cfg!(target_pointer_width = "64") {
        assert_eq!(caller.seek(far as isize, SEEK_SET), far as i32 as isize, "as 64 bits");
    }
    let mut bytes = [0; 3];
    assert_eq!(caller.read(&mut bytes), 3);
    assert_eq!(&bytes, b"far");
    assert_eq!(
        caller.seek(0xFFFF_FFFDu32 as i32 as isize, SEEK_SET),
        0xFFFF_FFFDu32 as i32 as isize
    );
    assert_eq!(caller.seek(-1, SEEK_SET), -1, "the position that means an error");
    assert_eq!(caller.write(b"xy"), -1);
    assert!(caller.last_error().1.contains("another file"));
    assert_eq!(caller.seek(4, SEEK_SET), 4);
    assert_eq!(caller.write(b"head"), 4, "headers can still be patched");
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), u64::from(far) + 3);
}

#[test]
fn a_file_that_was_there_goes_on() {
    let (_dir, path) = place();
    std::fs::write(&path, vec![5; 10_000]).unwrap();
    let mut caller = Caller::open(&name(&path), MMIO_READWRITE).unwrap();
    assert_eq!(caller.seek(5000, SEEK_SET), 5000);
    assert_eq!(caller.write(b"new"), 3);
    assert_eq!(caller.seek(0, SEEK_END), 10_000);
    assert_eq!(caller.write(b"end"), 3);
    assert_eq!(caller.close(), 0);
    let mut wanted = vec![5; 10_000];
    wanted[5000..5003].copy_from_slice(b"new");
    wanted.extend_from_slice(b"end");
    assert!(std::fs::read(&path).unwrap() == wanted);
}

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

#[test]
fn fences_come_by_themselves() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(&[1; 1000]), 1000);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while caller.durable() < 1000 {
        assert!(std::time::Instant::now() < until, "the default settings fence every second");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(caller.close(), 0);
}

/// A million of these in CI: `WRITEFLUSH_MESSAGES=1000000`.
#[test]
fn random_messages_leave_what_a_plain_file_would_hold() {
    let count = std::env::var("WRITEFLUSH_MESSAGES").map_or(20_000, |n| n.parse().unwrap());
    let seed = std::env::var("WRITEFLUSH_SEED").map_or(1, |n| n.parse().unwrap());
    println!("WRITEFLUSH_SEED={seed} WRITEFLUSH_MESSAGES={count}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = count;
    while left > 0 {
        let run = left.min(random.u32(1..5000));
        random_run(&mut random, run);
        left -= run;
    }
}

/// What a plain file would do.
#[derive(Default)]
struct Model {
    content: Vec<u8>,
    position: u64,
    refused: bool,
}

impl Model {
    fn write(&mut self, bytes: &[u8]) -> isize {
        let (from, to) = (self.position as usize, self.position as usize + bytes.len());
        if !bytes.is_empty() && to > self.content.len() {
            self.content.resize(to, 0);
        }
        if !bytes.is_empty() {
            self.content[from..to].copy_from_slice(bytes);
        }
        self.position = to as u64;
        bytes.len() as isize
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        let from = (self.position as usize).min(self.content.len());
        let to = (from + len).min(self.content.len());
        self.position += (to - from) as u64;
        self.content[from..to].to_vec()
    }

    fn seek(&mut self, by: isize, origin: isize) -> isize {
        let target = match origin {
            0 => i32::try_from(by).map_or(by as i128, |wrapped| (wrapped as u32).into()),
            1 => i128::from(self.position) + by as i128,
            2 => self.content.len() as i128 - by as i128,
            _ => -1,
        };
        if (0..0xFFFF_FFFF).contains(&target) {
            self.position = target as u64;
            target as u32 as i32 as isize
        } else {
            -1
        }
    }
}

fn random_run(random: &mut fastrand::Rng, messages: u32) {
    /// The model keeps everything in memory: what would be written past this is skipped.
    const LIMIT: u64 = 8 << 20;
    let hostile = [isize::MIN, -1 << 40, i32::MIN as isize, -1, 1 << 31, 1 << 40, isize::MAX];
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    let mut model = Model::default();
    let mut buffer = vec![0; 70_000];
    for _ in 0..messages {
        let len = match random.u32(0..20) {
            0 => 0,
            1 => random.usize(0..buffer.len()),
            _ => random.usize(0..600),
        };
        match random.u32(0..100) {
            0..50 if model.position + (len as u64) < LIMIT => {
                buffer[..len].fill_with(|| random.u8(..));
                let message = if random.u32(0..200) == 0 { MMIOM_WRITEFLUSH } else { MMIOM_WRITE };
                let taken = caller.send(message, buffer.as_ptr() as isize, len as isize);
                assert_eq!(taken, model.write(&buffer[..len]));
            }
            50..60 => {
                let taken = caller.send(MMIOM_READ, buffer.as_mut_ptr() as isize, len as isize);
                let wanted = model.read(len);
                assert_eq!(taken, wanted.len() as isize);
                assert!(buffer[..wanted.len()] == wanted[..], "at {}", model.position);
            }
            60..80 => {
                let (by, origin) = match random.u32(0..8) {
                    0 => (random.isize(-5000..5000), SEEK_CUR),
                    1 => (0, SEEK_END),
                    2 => (random.isize(-20_000..5000), SEEK_END),
                    3 => (random.isize(0..200), SEEK_SET),
                    _ => (random.isize(0..model.content.len() as isize + 4097), SEEK_SET),
                };
                assert_eq!(caller.seek(by, origin), model.seek(by, origin as isize));
            }
            80..85 => {
                // Numbers that make no sense. No bytes follow a seek to such a place.
                let (by, origin) = (*random.choice(&hostile).unwrap(), random.isize(-1..4));
                let before = model.position;
                let answer = caller.send(MMIOM_SEEK, by, origin);
                assert_eq!(answer, model.seek(by, origin), "{by} {origin}");
                assert_eq!(caller.seek(before as isize, SEEK_SET), model.seek(before as isize, 0));
            }
            85..87 if random.u32(0..50) == 0 => {
                let count = *random.choice(&hostile).unwrap();
                let message = *random.choice(&[MMIOM_READ, MMIOM_WRITE, MMIOM_WRITEFLUSH]).unwrap();
                assert_eq!(caller.send(message, buffer.as_mut_ptr() as isize, count), -1);
                model.refused |= message != MMIOM_READ;
            }
            87 => assert_eq!(caller.send(random.u32(6..u32::MAX) | 0x4000_0000, 1, 2), 0),
            88 if random.u32(0..20) == 0 => {
                assert_eq!(caller.send(WFM_FENCE, 0, 0), 0);
                assert_eq!(caller.durable(), model.content.len() as u64);
            }
            _ => assert!(caller.durable() <= model.content.len() as u64),
        }
        assert_eq!(caller.offset(), model.position as u32 as i32);
    }
    let answer = if model.refused { MMIOERR_CANNOTWRITE } else { 0 };
    assert_eq!(caller.close(), answer as isize);
    assert!(std::fs::read(&path).unwrap() == model.content);
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
