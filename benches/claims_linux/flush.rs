//! What `write_flush` of 4 KiB costs beside the same system calls written out by hand, and beside
//! `BufWriter` + `sync_data`.

use std::path::Path;

use writeflush::{BackendChoice, Direct, Drive, FenceForm, Options};
use writeflush_workloads::subject::{self, Family, Kind};
use writeflush_workloads::{Company, Conditions, Fate, Field, FileState, Go, Length, monotonic};

use super::{Row, Scratch, row};

fn kind(name: &str) -> Kind {
    subject::kinds().into_iter().find(|kind| kind.name == name).expect("it is built in")
}

/// The linked form, which no backend takes by itself.
fn linked() -> Kind {
    let name = "writeflush io_uring linked";
    let open: subject::Open = |place| {
        let options = Options::new().backend(BackendChoice::Uring).drive(Drive::Caller);
        subject::writer(place, &options.direct(Direct::On).fence_form(FenceForm::Link))
    };
    Kind { name, family: Family::Writeflush, open, ..kind("writeflush io_uring caller") }
}

/// What a stranger gets.
fn defaults() -> Kind {
    let open: subject::Open = |place| subject::writer(place, &Options::new());
    Kind { name: "writeflush, defaults", open, ..kind("writeflush io_uring thread") }
}

/// With zeros ahead of a growing file.
fn ahead() -> Kind {
    let open: subject::Open = |place| subject::writer(place, &Options::new().zero_ahead(4 << 20));
    Kind { name: "writeflush, zeros ahead", open, ..kind("writeflush io_uring thread") }
}

/// The floor in a file that was written before, among files that grow.
fn on_written() -> Kind {
    let open: subject::Open = |place| {
        FileState::Written.prepare(place.path, place.len())?;
        (kind("floor pwritev2 DSYNC").open)(place)
    };
    Kind { name: "floor pwritev2 DSYNC, written file", open, ..kind("floor pwritev2 DSYNC") }
}

/// `(id, of, to, bar)`: which arm is set beside which.
type Versus = (&'static str, usize, usize, &'static str);

/// Arms take turns commit by commit; in a block every arm has every file, and every place in the
/// order of opening, equally often.
fn side_by_side(
    folder: &Path,
    (state, length): (FileState, Length),
    kinds: &[Kind],
    asked: &[Versus],
) -> Vec<Row> {
    let conditions = Conditions { record: 4096, state, committers: 1, direct: true, burst: 1 };
    std::fs::create_dir(folder).expect("a folder");
    let field = Field {
        kinds,
        conditions: &conditions,
        folder,
        company: Company::Together,
        clock: monotonic,
    };
    let times = field.run(length, &mut fastrand::Rng::with_seed(1), || Go::On).expect("a run");
    for (kind, fate) in kinds.iter().zip(&times.fates) {
        assert_eq!(*fate, Fate::Alive, "{}", kind.name);
    }
    let row = |&(id, of, to, bar): &Versus| {
        let p50 = |arm: usize| format!("{:.0} µs", times.arms.quantile(arm, 0.5));
        let (a, b) = (kinds[of].name, kinds[to].name);
        let growing = if state == FileState::Growing { "growing, " } else { "" };
        let name = format!("4 KiB, {growing}{a} ({}) / {b} ({}), p50", p50(of), p50(to));
        let ratio = times.arms.ratio_of_medians(of, to).expect("whole blocks");
        row(format!("flush.{id}"), name, ratio.to_string(), bar)
    };
    asked.iter().map(row).collect()
}

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let (uring, pwritev2) = (kind("floor io_uring write DSYNC"), kind("floor pwritev2 DSYNC"));
    let written = [
        kind("writeflush io_uring caller"),
        uring,
        linked(),
        kind("floor io_uring write→fdatasync"),
        kind("writeflush sync caller"),
        pwritev2,
        kind("BufWriter+sync_data"),
        uring, // once more: the noise
        defaults(),
    ];
    let mut rows = side_by_side(
        &scratch.path("flush"),
        (FileState::Written, Length { blocks: 10, turns: 40 }),
        &written,
        &[
            ("uring/floor", 0, 1, "≤ 1.05"),
            ("linked/floor", 2, 3, "≤ 1.05"),
            ("sync/floor", 4, 5, "≤ 1.05"),
            ("uring/bufwriter", 0, 6, "≤ 1"),
            ("sync/bufwriter", 4, 6, "≤ 1"),
            ("defaults/floor", 8, 5, "≤ 1.03"),
            ("defaults/bufwriter", 8, 6, "≤ 1"),
            ("floor/floor", 7, 1, "the noise of this run: 1"),
        ],
    );
    let bufwriter = kind("BufWriter+sync_data");
    let growing = [defaults(), pwritev2, bufwriter, pwritev2, ahead(), on_written()];
    rows.extend(side_by_side(
        &scratch.path("growing"),
        // A log is long: what it costs until zeros are written ahead counts for little.
        (FileState::Growing, Length { blocks: 4, turns: 250 }),
        &growing,
        &[
            ("growing.defaults/floor", 0, 1, "≤ 1.03"),
            ("growing.defaults/bufwriter", 0, 2, "≤ 1"),
            ("growing.floor/floor", 3, 1, "the noise of this run: 1"),
            ("growing.ahead/written", 4, 5, "≤ 1.05"),
            ("growing.ahead/bufwriter", 4, 2, "≤ 0.6"),
            ("growing.ahead/floor", 4, 1, ""),
        ],
    ));
    rows
}
