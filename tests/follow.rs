//! Followers: what they read was written, never above their watermark, and however a writer ends they
//! hear of it. `WRITEFLUSH_KILLS=500 cargo test --test follow` kills so many recorders.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Config, assert_same, bytes, child_task, directory, each_config, until, watched};
use writeflush::follow::{End, Follower, Watermark};
use writeflush::{BackendChoice, Direct, Drive, Options, Preallocate, Writer, frames};

const BOTH: [Watermark; 2] = [Watermark::Written, Watermark::Durable];

/// Where the board of a recording is, or what becomes it.
fn boards(path: &Path) -> Vec<PathBuf> {
    let board = board(path);
    let name = board.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path());
    let is_its = |entry: &PathBuf| entry.file_stem().unwrap() == name;
    entries.filter(is_its).collect()
}

fn board(path: &Path) -> PathBuf {
    let file = std::fs::metadata(path).unwrap();
    format!("/dev/shm/writeflush-{:x}-{:x}", file.dev(), file.ino()).into()
}

fn end_of(error: std::io::Error) -> End {
    *error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an end")
}

/// Beside the writer of this process, whose positions can be asked: what is read is never above them.
#[test]
fn nothing_is_read_above_the_watermark() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let content = bytes(1, 300_000);
        let mut writer = config.options().followed(true).create(&path).unwrap();
        let control = writer.control().clone();
        thread::scope(|scope| {
            for watermark in BOTH {
                let mut follower = Follower::open(&path, watermark).unwrap();
                let (control, content, config) = (&control, &content, &config);
                scope.spawn(move || {
                    let (mut found, mut piece) = (Vec::new(), vec![0; 3000]);
                    while let read @ 1.. = follower.read(&mut piece).unwrap() {
                        found.extend(&piece[..read]);
                        let positions = control.positions();
                        let limit = match watermark {
                            Watermark::Written => positions.written,
                            Watermark::Durable => positions.durable,
                        };
                        assert!(
                            found.len() as u64 <= limit,
                            "{config}: {} of {limit}",
                            found.len()
                        );
                    }
                    assert_same(&found, content, config);
                    assert_eq!(follower.end(), Some(End::Closed { len: content.len() as u64 }));
                    assert_eq!(follower.read(&mut piece).unwrap(), 0, "once more");
                    follower.seek(SeekFrom::Start(5)).unwrap();
                    assert_eq!(follower.read(&mut piece[..7]).unwrap(), 7);
                    assert_same(&piece[..7], &content[5..12], config);
                });
            }
            let mut random = fastrand::Rng::with_seed(7);
            let mut rest = &content[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(random.usize(1..9000).min(rest.len()));
                let _ = writer.write(piece).unwrap();
                rest = behind;
                match random.u8(..8) {
                    0 => drop(writer.flush().unwrap()),
                    1 => drop(writer.fence()),
                    _ => {}
                }
            }
            writer.close().unwrap();
        });
        assert!(boards(&path).is_empty(), "{config}: nothing is left");
    });
}

#[test]
fn an_append_is_followed_from_its_start() {
    let directory = directory();
    let path = directory.path().join("take");
    std::fs::write(&path, [1; 5000]).unwrap();
    let mut writer = Options::new().followed(true).append(&path).unwrap();
    let mut follower = Follower::open(&path, Watermark::Durable).unwrap();
    assert_eq!(follower.limit(), 5000);
    assert_eq!(follower.seek(SeekFrom::End(-10)).unwrap(), 4990);
    let mut found = [0; 100];
    assert_eq!(follower.read(&mut found).unwrap(), 10);
    assert_eq!(follower.try_read(&mut found).unwrap(), None);
    assert!(!follower.wait(Duration::from_millis(1)).unwrap());
    writer.write_flush(&[2; 5]).unwrap();
    assert!(follower.wait(Duration::MAX).unwrap());
    assert_eq!(follower.try_read(&mut found).unwrap(), Some(5));
    assert_eq!((follower.position(), &found[..6]), (5005, &[2, 2, 2, 2, 2, 1][..]));
    assert!(follower.seek(SeekFrom::Current(-6000)).is_err());
    writer.close().unwrap();
}

/// The board is shared with a forked child, whose copy of the writer ends in its own way.
#[test]
fn a_forked_child_tells_followers_nothing() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = Config::STILL.options().followed(true).create(&path).unwrap();
    let mut follower = Follower::open(&path, Watermark::Durable).unwrap();
    // SAFETY: the child calls what allocates little, and no other thread of ours holds a lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        writer.control().panicked();
        drop(writer);
        // SAFETY: ends the child, with nothing run.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: a child that was just made; the status is not asked for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    assert_eq!(follower.try_read(&mut [0; 10]).unwrap(), None);
    writer.write_flush(b"goes on").unwrap();
    assert_eq!(follower.read(&mut [0; 10]).unwrap(), 7);
    writer.close().unwrap();
    assert_eq!(follower.read(&mut [0; 10]).unwrap(), 0);
}

/// A writer that fails, or is abandoned, and a follower that sleeps.
#[test]
fn a_writer_that_ends_badly_is_heard_of() {
    for failing in [true, false] {
        watched(if failing { "failed" } else { "abandoned" }, move || {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = Options::new().followed(true).create(&path).unwrap();
            let mut follower = Follower::open(&path, Watermark::Durable).unwrap();
            writer.write_flush(&[1; 100]).unwrap();
            let reader = thread::spawn(move || {
                let mut found = Vec::new();
                (end_of(follower.read_to_end(&mut found).unwrap_err()), found.len(), follower)
            });
            writer.write(&[2; 100]).unwrap();
            match failing {
                true => writer.control().panicked(), // as a failed write does
                false => drop(writer.control().abandon()),
            }
            let (end, found, mut follower) = reader.join().unwrap();
            assert_eq!(end, End::Failed { at: found as u64 });
            assert!(found == 100 || found == 200);
            assert_eq!(end_of(follower.read(&mut [0]).unwrap_err()), end, "each time");
            drop(writer);
            until(|| boards(&path).is_empty());
        });
    }
}

#[test]
fn where_nobody_can_be_followed_one_sentence_says_so() {
    let directory = directory();
    let path = directory.path().join("take");
    let refusal = |path: &Path| {
        let refused = Follower::open(path, Watermark::Durable).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
        let sentence = "nobody records it who can be followed: open its writer with \
                        Options::followed, or read it as a file";
        assert_eq!(refused.to_string(), format!("could not open {}: {sentence}", path.display()));
    };
    let missing = Follower::open(&path, Watermark::Durable).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let writer = Options::new().create(&path).unwrap();
    refusal(&path);
    drop(writer);
    // Somebody else's file of that name: empty, of the length of a board, longer.
    for content in [0, 56, 100] {
        std::fs::write(board(&path), vec![1; content]).unwrap();
        refusal(&path);
    }
    // The next writer takes it away.
    drop(Options::new().append(&path).unwrap());
    assert!(boards(&path).is_empty());
}

#[test]
fn an_open_that_fails_leaves_nothing_to_follow() {
    let directory = directory();
    let path = directory.path().join("take");
    std::fs::write(&path, "old").unwrap();
    let board = board(&path);
    std::fs::create_dir(&board).unwrap(); // in the way of the last step
    let refused = Options::new().followed(true).append(&path).unwrap_err();
    assert!(refused.to_string().contains("followers need shared memory in /dev/shm"), "{refused}");
    assert_eq!(boards(&path), [board.as_path()]);
    std::fs::remove_dir(&board).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

/// The board is found by the file, and not by its name.
#[test]
fn a_recording_is_followed_whatever_it_is_called() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = Options::new().followed(true).create(&path).unwrap();
    let [other, link] = ["moved", "link"].map(|name| directory.path().join(name));
    std::fs::rename(&path, &other).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let mut followers = [&other, &link].map(|path| Follower::open(path, BOTH[0]).unwrap());
    writer.write_flush(b"moved").unwrap();
    for follower in &mut followers {
        assert_eq!(follower.read(&mut [0; 10]).unwrap(), 5);
    }
    drop(writer);
    // One without a name, that was open already.
    let file = tempfile::tempfile_in(&directory).unwrap();
    let mut writer = Options::new().followed(true).append_file(&file).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut follower = Follower::open(path, Watermark::Durable).unwrap();
    writer.write_flush(b"without a name").unwrap();
    assert_eq!(follower.read(&mut [0; 20]).unwrap(), 14);
    writer.close().unwrap();
    assert_eq!(follower.read(&mut [0; 20]).unwrap(), 0);
}

/// A file that a later writer has: bytes that were not read in time are nobody's.
#[test]
fn what_a_later_writer_has_changed_is_not_given_out() {
    let directory = directory();
    let path = directory.path().join("take");
    for later in [0, 1, 2] {
        let mut writer = Options::new().followed(true).create(&path).unwrap();
        writer.write_flush(&[1; 1000]).unwrap();
        let mut follower = Follower::open(&path, Watermark::Durable).unwrap();
        assert_eq!(follower.read(&mut [0; 10]).unwrap(), 10);
        writer.close().unwrap();
        // As long as nobody has changed it, all of a closed one can be read.
        assert_eq!(follower.read(&mut [0; 10]).unwrap(), 10);
        let options = Options::new().followed(later == 1);
        let mut writer = match later {
            2 => options.open(&path).unwrap(),
            _ => options.create(&path).unwrap(),
        };
        writer.write_flush(&[2; 2000]).unwrap();
        let error = follower.read(&mut [0; 10]).unwrap_err();
        assert_eq!((end_of(error), follower.end()), (End::Replaced, Some(End::Replaced)));
        writer.close().unwrap();
    }
}

// ---- another process ------------------------------------------------------------------------------------

const CONTENT: usize = 4 << 20;

fn options(turn: u64) -> Options {
    let backend = if turn.is_multiple_of(2) { BackendChoice::Uring } else { BackendChoice::Sync };
    let drive = [Drive::Thread, Drive::Caller, Drive::Poll][(turn / 2 % 3) as usize];
    let direct = if (turn / 6).is_multiple_of(2) { Direct::On } else { Direct::Off };
    let ahead = [Preallocate::None, Preallocate::Reserve(1 << 20), Preallocate::Zero(1 << 20)];
    let options = Options::new().backend(backend).drive(drive).direct(direct).buffer_size(16 << 10);
    options.preallocate(ahead[(turn / 12 % 3) as usize]).lock_wait(Duration::from_secs(30))
}

/// Records until it is killed, or has recorded all and closes.
fn recorder(task: &str) -> ! {
    let (turn, path) = task.split_once(' ').unwrap();
    let turn: u64 = turn.parse().unwrap();
    let mut random = fastrand::Rng::with_seed(turn);
    let content = bytes(turn, CONTENT);
    let mut writer = options(turn).followed(true).create(path).unwrap();
    until(|| go(path.as_ref()).exists());
    let mut rest = &content[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(random.usize(1..20_000).min(rest.len()));
        match random.u8(..8) {
            0 => drop(writer.write_flush(piece).unwrap()),
            1 => {
                let _ = writer.write(piece).unwrap();
                drop(writer.fence());
            }
            _ => drop(writer.write(piece).unwrap()),
        }
        rest = behind;
    }
    finish(writer, turn);
    std::process::exit(0)
}

/// Its followers are there.
fn go(path: &Path) -> PathBuf {
    path.with_extension("go")
}

/// A close, or what an exit does.
fn finish(writer: Writer, turn: u64) {
    if turn.is_multiple_of(2) {
        drop(writer.close().unwrap());
    } else {
        std::mem::forget(writer);
    }
}

/// Killed, and gone, whatever becomes of the test.
struct Recorder(Child);

impl Recorder {
    fn begin(turn: u64, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["recorders_that_are_killed_are_followed", "--exact", "--nocapture"]);
        command.env("WRITEFLUSH_TEST_CHILD", format!("{turn} {}", path.display()));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that it can; how that ended.
fn read_all(follower: &mut Follower, seed: u64, killed: &AtomicBool) -> (Vec<u8>, End) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut found, mut piece) = (Vec::new(), vec![0; 40_000]);
    loop {
        match follower.read(&mut piece[..random.usize(1..40_000)]) {
            Ok(0) => return (found, follower.end().unwrap()),
            Ok(read) => found.extend(&piece[..read]),
            Err(error) => return (found, end_of(error)),
        }
        if random.u8(..20) == 0 && !killed.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_micros(random.u64(..2000))); // it falls behind
        }
    }
}

fn follow_and_kill(turn: u64) {
    let directory = directory();
    let path = directory.path().join("take");
    let lives = turn % 4 == 3; // to its own end
    let mut recorder = Recorder::begin(turn, &path);
    until(|| Follower::open(&path, Watermark::Written).is_ok());
    let opened = BOTH.map(|watermark| Follower::open(&path, watermark).unwrap());
    let mut late = Follower::open(&path, Watermark::Written).unwrap();
    std::fs::write(go(&path), "").unwrap();
    let (killed, content) = (&AtomicBool::new(false), &bytes(turn, CONTENT));
    thread::scope(|scope| {
        for (mut follower, watermark) in opened.into_iter().zip(BOTH) {
            scope.spawn(move || {
                let (found, end) = read_all(&mut follower, turn, killed);
                assert_same(&found, &content[..found.len()], &format!("{turn}, {watermark:?}"));
                let at = found.len() as u64;
                match end {
                    End::Closed { len } => assert!(len == at && at == CONTENT as u64),
                    End::Died { at: died } => assert!(!lives && died == at),
                    end => panic!("{turn}: {end:?}"),
                }
            });
        }
        if lives {
            recorder.0.wait().unwrap();
        } else {
            thread::sleep(Duration::from_micros(fastrand::Rng::with_seed(!turn).u64(..30_000)));
            recorder.0.kill().unwrap();
            recorder.0.wait().unwrap();
        }
        killed.store(true, Ordering::Relaxed);
    });
    // The next recording of this name: its bytes are not those that were followed.
    let mut writer = options(turn).followed(turn.is_multiple_of(2)).create(&path).unwrap();
    writer.write_flush(&[0xAA; 100_000]).unwrap();
    assert_eq!(late.read(&mut [0; 1000]).map_err(end_of), Err(End::Replaced), "{turn}");
    writer.close().unwrap();
    std::fs::remove_file(go(&path)).unwrap();
    assert!(boards(&path).is_empty(), "{turn}");
}

#[test]
fn recorders_that_are_killed_are_followed() {
    if let Some(task) = child_task() {
        recorder(&task);
    }
    let kills: u64 =
        std::env::var("WRITEFLUSH_KILLS").map_or(36, |text| text.parse().expect("a number"));
    for turn in 0..kills {
        watched(&format!("turn {turn}"), move || follow_and_kill(turn));
    }
}

// ---- frames ---------------------------------------------------------------------------------------------

#[test]
fn frames_are_read_as_they_become_durable() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let below = config.options().followed(true);
        let mut writer = frames::Options::from(below).create(&path).unwrap();
        let mut follower = frames::Follower::open(&path, Watermark::Durable).unwrap();
        let control: writeflush::Control = (*writer).clone();
        let reader = thread::spawn(move || {
            let mut numbers = Vec::new();
            while let Some(item) = follower.read().unwrap() {
                let frames::Item::Frame(frame) = item else { panic!("{item:?}") };
                assert_eq!(frame.payload, bytes(frame.sequence, frame.payload.len()));
                let end = frame.position + 40 + frame.payload.len() as u64;
                assert!(end <= control.positions().durable);
                numbers.push(frame.sequence);
            }
            assert!(matches!(follower.end(), Some(End::Closed { .. })));
            numbers
        });
        let mut random = fastrand::Rng::with_seed(3);
        for number in 0..200 {
            writer.write(number, &bytes(number, random.usize(..5000))).unwrap();
            if random.u8(..5) == 0 {
                writer.flush().unwrap();
            }
        }
        writer.close().unwrap();
        assert_eq!(reader.join().unwrap(), (0..200).collect::<Vec<_>>(), "{config}");
    });
}

#[test]
fn a_config_that_moves_by_itself_only_is_followed_too() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = Config::STILL.options().followed(true).create(&path).unwrap();
    let mut follower = Follower::open(&path, Watermark::Written).unwrap();
    writer.try_write(&[1; 10]).unwrap();
    assert_eq!(follower.try_read(&mut [0; 10]).unwrap(), None);
    writer.flush().unwrap();
    assert_eq!(follower.try_read(&mut [0; 10]).unwrap(), Some(10));
    writer.close().unwrap();
}

/// Whoever has a limit gets the same bytes, or hears that there are none yet.
#[test]
fn with_a_limit_a_follower_says_not_yet() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let content = bytes(5, 200_000);
        let mut writer = config.options().followed(true).create(&path).unwrap();
        let mut follower = Follower::open(&path, Watermark::Durable).unwrap();
        let mut piece = [0; 3000];
        let limit = Duration::from_millis(1);
        assert_eq!(follower.read_timeout(&mut piece, limit).unwrap(), None, "{config}");
        let reader = thread::spawn(move || {
            let (mut found, mut random) = (Vec::new(), fastrand::Rng::with_seed(9));
            loop {
                let limit = Duration::from_micros(random.u64(..2000));
                match follower.read_timeout(&mut piece, limit).unwrap() {
                    None => {}
                    Some(0) => return found,
                    Some(read) => found.extend(&piece[..read]),
                }
            }
        });
        for part in content.chunks(7000) {
            writer.write_flush(part).unwrap();
        }
        writer.close().unwrap();
        assert_same(&reader.join().unwrap(), &content, &config);
    });
}

#[test]
fn with_a_limit_frames_come_whole_and_once() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let below = config.options().followed(true);
        let mut writer = frames::Options::from(below).create(&path).unwrap();
        // Written: there half a frame is the rule.
        let mut follower = frames::Follower::open(&path, Watermark::Written).unwrap();
        assert_eq!(follower.read_timeout(Duration::ZERO).unwrap(), None, "{config}");
        let reader = thread::spawn(move || {
            let (mut numbers, mut random) = (Vec::new(), fastrand::Rng::with_seed(9));
            loop {
                let limit = Duration::from_micros(random.u64(..2000));
                match follower.read_timeout(limit).unwrap() {
                    None => {}
                    Some(None) => return numbers,
                    Some(Some(frames::Item::Frame(frame))) => {
                        assert_eq!(frame.payload, bytes(frame.sequence, frame.payload.len()));
                        numbers.push(frame.sequence);
                    }
                    Some(Some(hole)) => panic!("{hole:?}"),
                }
            }
        });
        let mut random = fastrand::Rng::with_seed(3);
        for number in 0..200 {
            writer.write(number, &bytes(number, random.usize(..9000))).unwrap();
            if random.u8(..5) == 0 {
                writer.flush().unwrap();
            }
        }
        writer.close().unwrap();
        assert_eq!(reader.join().unwrap(), (0..200).collect::<Vec<_>>(), "{config}");
    });
}

/// Also of who never sleeps: a look is enough.
#[test]
fn a_killed_writer_is_heard_of_without_a_wait() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut recorder = Recorder::begin(0, &path);
    until(|| Follower::open(&path, Watermark::Written).is_ok());
    let mut follower = Follower::open(&path, Watermark::Written).unwrap();
    recorder.0.kill().unwrap();
    recorder.0.wait().unwrap();
    watched("a look", move || {
        let end = loop {
            if let Err(error) = follower.read_timeout(&mut [0; 100], Duration::ZERO) {
                break end_of(error);
            }
        };
        assert!(matches!(end, End::Died { .. }), "{end:?}");
    });
}
