//! Every call, on every configuration, against a plain `Vec<u8>`: the file holds exactly what the
//! calls say, and the positions keep their promises after each of them.

mod common;

use common::program::{Open, Program};
use common::{Config, SMALL, assert_file, bytes, each_config};
use proptest::prelude::*;
use writeflush::{Error, Preallocate, Push};

use common::program::Op::{self, *};

/// Runs the program on every configuration.
fn run(program: Program) {
    each_config(move |config, directory| drop(program.run(config, directory)));
}

/// Lengths around everything that has a size: nothing, a sector, a block, a buffer, the ring.
const LENGTHS: [usize; 14] = [
    0,
    1,
    511,
    512,
    4095,
    4096,
    4097,
    2 * SMALL - 1,
    2 * SMALL,
    2 * SMALL + 1,
    3 * SMALL,
    3 * SMALL + 1,
    1,
    100_000,
];

#[test]
fn writes_of_every_length() {
    run(Program::new(&LENGTHS.map(Write)));
}

#[test]
fn writes_of_every_length_through_larger_buffers() {
    run(Program::new(&LENGTHS.map(Write)).buffers(8192, 3));
}

#[test]
fn flushed_writes_of_every_length() {
    run(Program::new(&LENGTHS.map(WriteFlush)));
}

#[test]
fn try_write_takes_all_or_nothing() {
    let lengths = [0, 1, 4095, 1, 4096, 4097, 3 * SMALL, 7, 4096, 4096, 4096, 3000, 3000, 3000];
    run(Program::new(&lengths.map(TryWrite)));
    run(Program::new(&lengths.map(TryWrite)).buffers(8192, 4));
}

#[test]
fn many_small_writes_and_flushes() {
    let ops = (0..200).flat_map(|i| [Write(i * 7 % 300), WriteFlush(i * 13 % 97)]);
    run(Program::new(&ops.collect::<Vec<_>>()));
}

#[test]
fn grants_whole_in_part_and_dropped() {
    let ops = (0..60).flat_map(|i| {
        let len = 100 + i * 131 % 3900;
        [Grant(len, len), Grant(len, len / 3), GrantDropped(len), Grant(len, 0), Write(5)]
    });
    run(Program::new(&ops.collect::<Vec<_>>()));
    run(Program::new(&[Grant(0, 0), Grant(SMALL, SMALL), Grant(SMALL + 1, 1), GrantDropped(1)]));
}

#[test]
fn a_grant_across_the_end_of_the_ring() {
    let ops = [Write(2 * SMALL - 100), Flush, Grant(1000, 1000), Grant(3000, 99), Flush, Write(1)];
    run(Program::new(&ops));
    // The part that is committed ends before, at, and just after the end of the ring.
    for commit in [0, 99, 100, 101, 1000] {
        run(Program::new(&[Write(2 * SMALL - 100), Flush, Grant(1000, commit), Write(50)]));
    }
}

#[test]
fn several_fences_outstanding() {
    let ops = (0..50).flat_map(|i| [Write(i * 37), Fence, Fence, Look]);
    let waits = std::iter::repeat_n(Await, 60);
    let ops: Vec<_> = ops.chain([Forget, Forget]).chain(waits).chain([Write(9), Fence]).collect();
    run(Program::new(&ops));
}

#[test]
fn patches_of_buffered_bytes() {
    run(Program::new(&[Write(4000), Patch(0, 10), Patch(500, 1), PatchEnd(1, 1), Patch(0, 4000)]));
    run(Program::new(&[Write(4000), Patch(0, 0), PatchEnd(3999, 3999), Write(50), Patch(990, 9)]));
}

#[test]
fn patches_of_bytes_that_may_be_in_flight() {
    let ops = (0..80).flat_map(|i| {
        [Write(3000), PatchEnd(2900, 50 + i), PatchEnd(1, 1), PatchEnd(4096, 4096), Fence]
    });
    run(Program::new(&ops.collect::<Vec<_>>()));
}

#[test]
fn patches_of_bytes_on_disk_at_any_alignment() {
    let places = [0, 1, 123, 250, 333, 500, 501, 750, 999, 1000];
    let lengths = [1, 511, 512, 513, 4095, 4096, 4097, 8192, 12_345];
    let patches = places.into_iter().zip(lengths.into_iter().cycle());
    let patches = patches.flat_map(|(place, len)| [Patch(place, len), Flush, Patch(place, len)]);
    let ops: Vec<_> = [Write(40_001), Flush].into_iter().chain(patches).collect();
    run(Program::new(&ops));
}

#[test]
fn patches_longer_than_travel_as_one() {
    for len in [32 * 1024, 32 * 1024 + 1, 65_536, 100_001, 400_000] {
        let ops = [Write(500_000), Patch(1, len), Flush, Patch(7, len), Patch(100, len), Write(9)];
        run(Program::new(&ops));
    }
}

#[test]
fn a_patch_from_the_disk_into_the_buffers() {
    let ops = [WriteFlush(5000), Write(2000), PatchEnd(3500, 3000), Flush, PatchEnd(2500, 2500)];
    run(Program::new(&ops));
    run(Program::new(&[WriteFlush(4096), Write(10), PatchEnd(11, 11), IoFlush, PatchEnd(11, 11)]));
}

#[test]
fn more_patches_than_the_queue_holds() {
    let patches = (0..40).map(|i| Patch(i * 25, 33)).chain([Fence]);
    let ops: Vec<_> = [Write(20_000)].into_iter().chain(patches).collect();
    run(Program::new(&ops));
}

#[test]
fn a_tail_that_is_patched_and_flushed_again_and_again() {
    let ops = (0..60).flat_map(|i| [Write(60 + i), Flush, PatchEnd(60, 30), Flush, PatchEnd(9, 9)]);
    run(Program::new(&ops.collect::<Vec<_>>()));
}

#[test]
fn checkpoints() {
    let ops = (0..40).flat_map(|i| [Write(1000 + i), Checkpoint(0, 44), Checkpoint(500, 100)]);
    run(Program::new(&ops.collect::<Vec<_>>()));
    run(Program::new(&[Checkpoint(0, 0), Write(100), Checkpoint(0, 100), PatchEnd(50, 50)]));
}

#[test]
fn standard_write_and_seek() {
    let back = [IoWrite(9000), Seek(0), IoWrite(100), Seek(300), IoWrite(4097), SeekBack(20)];
    let across = [IoWrite(50), Seek(1000), IoWrite(10), SeekBack(5), IoWrite(5000), IoFlush];
    let hole = [SeekPastEnd(1), IoWrite(1), SeekPastEnd(10_000), IoWrite(0), IoWrite(3), IoFlush];
    run(Program::new(&[back, across, hole].concat()));
    run(Program::new(&[SeekPastEnd(5000), SeekBack(1000), IoWrite(10), Write(10), IoWrite(10)]));
}

/// A longer gap is made by the file system.
const LONGEST_FILLED: u64 = 4 << 20;

#[test]
fn gaps_of_every_kind() {
    for gap in [LONGEST_FILLED, LONGEST_FILLED + 4095] {
        let patched =
            [PatchEnd(10, 10), SeekPastEnd(gap), Patch(500, 9000), IoWrite(5), Patch(999, 4)];
        let fenced =
            [Fence, SeekPastEnd(gap), IoWrite(4096), Fence, Await, Await, Checkpoint(0, 44)];
        let across = [SeekBack(5), IoWrite(10), PatchEnd(9000, 9000), IoFlush, SeekPastEnd(gap)];
        let on = [IoWrite(50_000), Seek(300), IoWrite(5000), Flush, Share, Write(100_000)];
        let ops = [&[Write(5000)], &patched[..], &fenced, &across, &on].concat();
        run(Program::new(&ops));
        run(Program::new(&ops).open(Open::Append(bytes(76, 4097))));
        let short = [IoWrite(1), SeekPastEnd(gap), IoWrite(1)];
        run(Program::new(&short).open(Open::Overwrite(bytes(75, 20_000))));
        run(Program::new(&short[1..]).preallocate(Preallocate::Reserve(5 << 20)));
    }
}

#[test]
fn append_keeps_what_is_there() {
    for existing in [0, 1, 511, 512, 4095, 4096, 4097, 8191, 12_289] {
        let ops = [Write(100), PatchEnd(101, 51), Write(5000), Flush, Patch(0, 10), Write(8192)];
        run(Program::new(&ops).open(Open::Append(bytes(77, existing))));
        run(Program::new(&[]).open(Open::Append(bytes(78, existing))));
        run(Program::new(&[WriteFlush(1), Share, Write(4096)])
            .open(Open::Append(bytes(79, existing))));
        let back = [Write(4), Seek(1), IoWrite(1), Checkpoint(0, 8), Write(3000), Checkpoint(1, 8)];
        run(Program::new(&back).open(Open::Append(bytes(80, existing))));
    }
}

#[test]
fn a_recycled_file_keeps_its_tail() {
    for (existing, written) in
        [(0, 5), (100, 50), (4096, 1), (10_000, 9_999), (10_000, 4097), (9_000, 9_001), (20_000, 0)]
    {
        let ops = [Write(written / 2), Flush, Write(written - written / 2)];
        run(Program::new(&ops).open(Open::Overwrite(bytes(80, existing))));
        let ops = [Write(written), Fence, Patch(0, 3), PatchEnd(1, 1)];
        run(Program::new(&ops).open(Open::Overwrite(bytes(81, existing))));
    }
}

#[test]
fn create_empties_a_longer_file() {
    for written in [0, 1, 4096, 5000] {
        run(Program::new(&[Write(written)]).open(Open::Create(bytes(82, 30_000))));
    }
}

#[test]
fn space_ahead_is_cut_off_at_close() {
    for ahead in [1, 4096, 10_000, 3 << 20] {
        for preallocate in [Preallocate::Reserve(ahead), Preallocate::Zero(ahead)] {
            let program = Program::new(&[Write(5001), Flush, Patch(500, 9), Write(300)]);
            run(program.clone().preallocate(preallocate));
            run(program.preallocate(preallocate).open(Open::Append(bytes(83, 1001))));
            run(Program::new(&[]).preallocate(preallocate));
        }
    }
}

#[test]
fn nothing_written_is_an_empty_file() {
    run(Program::new(&[]));
    run(Program::new(&[Write(0), WriteFlush(0), TryWrite(0), Fence, Await, Flush]));
}

#[test]
fn a_shared_writer_goes_on_where_the_exclusive_one_was() {
    for before in [0, 1, 4095, 4096, 6000, 8192, 50_000] {
        let ops = [Write(before), Share, Write(3), TryWrite(4096), WriteFlush(100), Write(30_000)];
        run(Program::new(&[&ops[..], &[Patch(0, 99), Checkpoint(500, 7), Write(1)]].concat()));
    }
}

#[test]
fn dropping_the_writer_closes_the_file() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().preallocate(Preallocate::Reserve(1 << 20)).create(&path);
        let writer = writer.as_mut().unwrap();
        assert_eq!(writer.write(&bytes(1, 5000)).unwrap(), Push::Accepted(0));
        drop(std::mem::replace(writer, config.create(&directory.join("other"))));
        assert_file(&path, &bytes(1, 5000), &config);
    });
}

#[test]
fn full_says_how_much_is_free() {
    let mut writer = Config::STILL.create(&common::directory().path().join("take"));
    assert_eq!(writer.try_write(&bytes(1, 8000)).unwrap(), 0);
    for len in [193, 4096] {
        let error = writer.try_write(&bytes(2, len)).unwrap_err();
        assert!(matches!(error, Error::Full { offered, free: 192 } if offered == len));
    }
    let error = writer.try_write(&bytes(2, 4097)).unwrap_err();
    assert!(matches!(error, Error::TooLong { offered: 4097, limit: 4096 }), "{error}");
    assert_eq!(writer.positions().accepted, 8000);
    assert_eq!(writer.try_write(&bytes(3, 192)).unwrap(), 8000);
}

// ---- random programs --------------------------------------------------------------------------------

fn length() -> impl Strategy<Value = usize> {
    let edges = prop::sample::select(vec![0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193]);
    prop_oneof![3 => 0..300usize, 3 => edges, 2 => 0..9000usize, 1 => 0..40_000usize]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => length().prop_map(Write),
        3 => length().prop_map(TryWrite),
        2 => length().prop_map(WriteFlush),
        2 => (length(), length()).prop_map(|(len, commit)| Grant(len, commit)),
        1 => length().prop_map(GrantDropped),
        3 => Just(Fence),
        1 => Just(Await),
        1 => Just(Look),
        1 => Just(Forget),
        1 => Just(Flush),
        3 => (0..=1000u64, length()).prop_map(|(at, len)| Patch(at, len)),
        2 => (0..9000u64, length()).prop_map(|(before, len)| PatchEnd(before, len)),
        1 => (0..=1000u64, 0..600usize).prop_map(|(at, len)| Checkpoint(at, len)),
        3 => length().prop_map(IoWrite),
        1 => Just(IoFlush),
        1 => (0..=1000u64).prop_map(Seek),
        1 => (0..9000u64).prop_map(SeekPastEnd),
        1 => (LONGEST_FILLED - 2..LONGEST_FILLED + 9000).prop_map(SeekPastEnd),
        1 => (0..9000u64).prop_map(SeekBack),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    let existing = || (0..20_000usize).prop_map(|len| bytes(99, len));
    let open = prop_oneof![
        3 => Just(Open::CreateNew),
        1 => existing().prop_map(Open::Create),
        2 => existing().prop_map(Open::Append),
        2 => existing().prop_map(Open::Overwrite),
    ];
    let buffers = prop::sample::select(vec![(4096, 2), (4096, 3), (8192, 2), (12_288, 5)]);
    let preallocate = prop_oneof![
        3 => Just(Preallocate::None),
        1 => (0..100_000u64).prop_map(Preallocate::Reserve),
        1 => (0..100_000u64).prop_map(Preallocate::Zero),
    ];
    let ops = prop::collection::vec(op(), 1..25);
    let later = prop::collection::vec(op(), 0..8);
    (open, buffers, preallocate, ops, later).prop_map(
        |(open, (buffer, buffers), preallocate, mut ops, later)| {
            if !later.is_empty() {
                ops.push(Share);
                ops.extend(later);
            }
            Program { open, buffer, buffers, preallocate, ops }
        },
    )
}

/// `WRITEFLUSH_SEED` repeats a run, `WRITEFLUSH_CASES` lengthens it.
#[test]
fn random_programs() {
    use proptest::test_runner::{Config as Settings, RngAlgorithm, TestRng, TestRunner};
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("WRITEFLUSH_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_nanos() as u64
    });
    let cases = number("WRITEFLUSH_CASES").unwrap_or(100) as u32;
    eprintln!("WRITEFLUSH_SEED={seed}");
    for (index, config) in common::configs().into_iter().enumerate() {
        let mut bits = [0; 32];
        bits[..8].copy_from_slice(&seed.to_le_bytes());
        bits[8] = index as u8;
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bits);
        let settings = Settings { cases, failure_persistence: None, ..Settings::default() };
        let mut runner = TestRunner::new_with_rng(settings, rng);
        let result = runner.run(&program(), |program| {
            let label = format!("{config}, WRITEFLUSH_SEED={seed}: {program:?}");
            let directory = common::directory();
            common::watched(&label, move || program.run(config, directory.path()));
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{config}, WRITEFLUSH_SEED={seed}: {error}"));
    }
}
