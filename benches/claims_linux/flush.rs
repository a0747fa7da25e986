//! What `write_flush` of 4 KiB costs beside the same system calls written out by hand, and beside
//! `BufWriter` + `sync_data`.

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

/// Arms take turns commit by commit; in a block every arm has every file, and every place in the
/// order of opening, equally often.
pub fn run(scratch: &Scratch) -> Vec<Row> {
    let kinds = [
        kind("writeflush io_uring caller"),
        kind("floor io_uring write DSYNC"),
        linked(),
        kind("floor io_uring write→fdatasync"),
        kind("writeflush sync caller"),
        kind("floor pwritev2 DSYNC"),
        kind("BufWriter+sync_data"),
        kind("floor io_uring write DSYNC"), // once more: the noise
    ];
    let state = FileState::Written;
    let conditions = Conditions { record: 4096, state, committers: 1, direct: true, burst: 1 };
    let folder = scratch.path("flush");
    std::fs::create_dir(&folder).expect("a folder");
    let field = Field {
        kinds: &kinds,
        conditions: &conditions,
        folder: &folder,
        company: Company::Together,
        clock: monotonic,
    };
    let length = Length { blocks: 10, turns: 40 };
    let times = field.run(length, &mut fastrand::Rng::with_seed(1), || Go::On).expect("a run");
    for (kind, fate) in kinds.iter().zip(&times.fates) {
        assert_eq!(*fate, Fate::Alive, "{}", kind.name);
    }
    let versus = |id: &str, of: usize, to: usize, bar: &str| {
        let p50 = |arm: usize| format!("{:.0} µs", times.arms.quantile(arm, 0.5));
        let (a, b) = (kinds[of].name, kinds[to].name);
        let name = format!("4 KiB, {a} ({}) / {b} ({}), p50", p50(of), p50(to));
        let ratio = times.arms.ratio_of_medians(of, to).expect("whole blocks");
        row(format!("flush.{id}"), name, ratio.to_string(), bar)
    };
    vec![
        versus("uring/floor", 0, 1, "≤ 1.05"),
        versus("linked/floor", 2, 3, "≤ 1.05"),
        versus("sync/floor", 4, 5, "≤ 1.05"),
        versus("uring/bufwriter", 0, 6, "≤ 1"),
        versus("sync/bufwriter", 4, 6, "≤ 1"),
        versus("floor/floor", 7, 1, "the noise of this run: 1"),
    ]
}
