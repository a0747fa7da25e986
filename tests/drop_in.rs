//! A crate that wants `W: Write + Seek` gets a `Writer` in the place of `BufWriter<File>`: hound
//! writes a WAV file whose header it patches at the end by seeking back.

mod common;

use std::io::{Seek, SeekFrom, Write};

use writeflush::{BackendChoice, Direct, Drive, Options, Writer};

const SPEC: hound::WavSpec = hound::WavSpec {
    channels: 2,
    sample_rate: 48_000,
    bits_per_sample: 16,
    sample_format: hound::SampleFormat::Int,
};

fn samples() -> impl Iterator<Item = i16> {
    (0..200_001u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 16) as i16)
}

/// Through `W: Write + Seek`, as hound takes it.
fn record<W: Write + Seek>(to: W) {
    let mut wav = hound::WavWriter::new(to, SPEC).unwrap();
    samples().for_each(|sample| wav.write_sample(sample).unwrap());
    // An odd number of samples is no whole frame: one more.
    wav.write_sample(7).unwrap();
    wav.finalize().unwrap();
}

#[test]
fn hound_writes_the_same_file_as_through_bufwriter() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plain = dir.path().join("plain.wav");
    record(std::io::BufWriter::new(std::fs::File::create(&plain).unwrap()));
    let expected = std::fs::read(&plain).unwrap();
    for backend in [BackendChoice::Auto, BackendChoice::Sync] {
        for direct in [Direct::Auto, Direct::Off] {
            for drive in [Drive::Caller, Drive::Thread, Drive::Poll] {
                for buffer in [4096, 65536, 1 << 20] {
                    let path = dir.path().join("ours.wav");
                    let options = Options::new().backend(backend).direct(direct).drive(drive);
                    let mut writer = options.buffer_size(buffer).create(&path).unwrap();
                    record(&mut writer);
                    writer.close().unwrap();
                    let configuration = format!("{backend:?} {direct:?} {drive:?} {buffer}");
                    assert!(std::fs::read(&path).unwrap() == expected, "{configuration}");
                }
            }
        }
    }
    let read: Vec<i16> = hound::WavReader::open(dir.path().join("ours.wav"))
        .unwrap()
        .into_samples()
        .map(Result::unwrap)
        .collect();
    assert!(read.into_iter().eq(samples().chain([7])));
}

/// An encoder reckons with positions: under `Drop` they would be wrong from the first loss on, so
/// the trait's write fails; under `Fill` they are right.
#[test]
fn an_encoder_hears_of_a_loss_that_moves_what_follows() {
    use writeflush::{Error, OnFull};
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("take.wav");
    // Nothing is written unless a call waits: the buffers are full soon.
    let options = Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    let options = options.direct(Direct::Off).buffer_size(4096);

    let writer = options.clone().on_full(OnFull::Drop).create(&path).unwrap();
    let control = writer.control().clone();
    let mut wav = hound::WavWriter::new(writer, SPEC).unwrap();
    let answer = samples().try_for_each(|sample| wav.write_sample(sample));
    let Err(hound::Error::IoError(error)) = answer else { panic!("{answer:?}") };
    let lost = error.get_ref().and_then(|error| error.downcast_ref());
    let Some(&Error::Lost { bytes }) = lost else { panic!("{error:?}") };
    assert_eq!(control.stats().overrun_bytes, bytes as u64);
    drop(wav);

    let writer = options.on_full(OnFull::Fill(0)).create(&path).unwrap();
    let control = writer.control().clone();
    let mut wav = hound::WavWriter::new(writer, SPEC).unwrap();
    samples().chain([7]).for_each(|sample| wav.write_sample(sample).unwrap());
    assert!(control.stats().overrun_bytes > 0);
    wav.finalize().unwrap();
    assert_eq!(hound::WavReader::open(&path).unwrap().len(), 200_002);
}

#[test]
fn a_cursor_past_the_end_leaves_zeros() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("hole");
    let mut writer: Writer = Options::new().buffer_size(4096).create(&path).unwrap();
    Write::write_all(&mut writer, b"head").unwrap();
    assert_eq!(writer.seek(SeekFrom::Start(10_000)).unwrap(), 10_000);
    Write::write_all(&mut writer, b"tail").unwrap();
    assert_eq!(writer.stream_position().unwrap(), 10_004);
    writer.close().unwrap();
    let mut expected = vec![0; 10_004];
    expected[..4].copy_from_slice(b"head");
    expected[10_000..].copy_from_slice(b"tail");
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

/// With `std::io::Write` in scope, too.
#[test]
fn flush_by_name_is_the_durable_one() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut writer = Options::new().create(dir.path().join("flush")).unwrap();
    Write::write_all(&mut writer, b"bytes").unwrap();
    let durable: u64 = writer.flush().unwrap();
    assert_eq!((durable, writer.positions().durable), (5, 5));
    writer.close().unwrap();
}

/// Generic code calls the only flush that it knows.
#[test]
fn a_flush_of_std_is_a_fence_where_that_was_asked_for() {
    fn generic(writer: &mut impl Write) {
        writer.write_all(b"record").unwrap();
        writer.flush().unwrap();
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for durable in [false, true] {
        let options = Options::new().durable_flush(durable);
        let mut writer = options.create(dir.path().join("one")).unwrap();
        generic(&mut writer);
        assert_eq!((writer.positions().written, writer.stats().fences > 0), (6, durable));
        assert_eq!(writer.positions().durable, if durable { 6 } else { 0 });
        writer.close().unwrap();
        let writer = options.create(dir.path().join("many")).unwrap().into_shared();
        generic(&mut &writer);
        assert_eq!((writer.positions().written, writer.stats().fences > 0), (6, durable));
        writer.close().unwrap();
    }
}

/// An overwrite has no position of its own, and is in the file all the same after the weaker flush.
#[test]
#[cfg(unix)]
fn a_flush_of_std_brings_overwrites_to_the_file_too() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("header");
    for backend in [BackendChoice::Auto, BackendChoice::Sync] {
        for drive in [Drive::Caller, Drive::Thread, Drive::Poll] {
            let options = Options::new().backend(backend).drive(drive).buffer_size(65536);
            let mut writer = options.create(&path).unwrap();
            Write::write_all(&mut writer, &[1; 100_000]).unwrap();
            Write::flush(&mut writer).unwrap();
            writer.seek(SeekFrom::Start(10)).unwrap();
            Write::write_all(&mut writer, b"header").unwrap();
            Write::flush(&mut writer).unwrap();
            let found = std::fs::read(&path).unwrap();
            assert_eq!(&found[10..16], b"header", "{backend:?} {drive:?}");
            writer.close().unwrap();
        }
    }
}

/// Where the caller drives, a loop of tries gets through.
#[test]
#[cfg(target_os = "linux")]
fn trying_again_is_enough_where_the_backend_is_asynchronous() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Options::new().buffer_size(4096).drive(Drive::Caller);
    let mut writer = options.create(dir.path().join("tries")).unwrap();
    if writer.backend() != writeflush::Backend::Uring {
        let name = "trying_again_is_enough_where_the_backend_is_asynchronous";
        return common::skip(name, &format!("no io_uring here: {:?}", writer.fallbacks()));
    }
    for _ in 0..100 {
        while writer.try_write(&[1; 3000]).is_err() {
            assert!(writer.error().is_none());
        }
    }
    assert_eq!(writer.close().unwrap().positions.durable, 300_000);
}

#[test]
#[cfg(unix)]
fn a_new_file_gets_the_mode_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("mode");
    Options::new().mode(0o600).create(&path).unwrap().close().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
