//! Fields of subjects that take what a synthetic clock says: no disk decides here.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::arms::Centre;
use crate::subject::{Class, Family};

#[derive(Default)]
struct World {
    now: Duration,
    open: usize,
    most_open: usize,
    commits: HashMap<&'static str, u64>,
    weather: u64,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn clock() -> Duration {
    WORLD.with_borrow(|world| world.now)
}

/// What a commit takes grows with the slot.
struct Synthetic {
    name: &'static str,
    /// Thousandths of what the others take.
    cost: u64,
    slot: u64,
    dies_after: Option<u64>,
}

impl Subject for Synthetic {
    fn commit(&self, _committer: usize, _record: &[u8]) -> io::Result<()> {
        WORLD.with_borrow_mut(|world| {
            let commits = world.commits.entry(self.name).or_default();
            *commits += 1;
            if self.dies_after.is_some_and(|last| *commits > last) {
                return Err(io::Error::from_raw_os_error(5));
            }
            world.weather = (world.weather + 7) % 13;
            let nanos = self.cost * (1000 + 100 * self.slot) / 10 * (100 + world.weather) / 100;
            world.now += Duration::from_nanos(nanos);
            Ok(())
        })
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        WORLD.with_borrow_mut(|world| world.open -= 1);
    }
}

fn synthetic(
    name: &'static str,
    place: &Place<'_>,
    cost: u64,
    dies_after: Option<u64>,
) -> io::Result<Box<dyn Subject>> {
    let file = place.path.file_name().and_then(|name| name.to_str());
    let slot = file.and_then(|name| name.strip_prefix("slot-")?.parse().ok()).expect("a slot");
    WORLD.with_borrow_mut(|world| {
        world.open += 1;
        world.most_open = world.most_open.max(world.open);
    });
    Ok(Box::new(Synthetic { name, cost, slot, dies_after }))
}

fn kind(name: &'static str, open: crate::subject::Open) -> Kind {
    Kind { name, family: Family::Floor, class: Class::Durable, floor: None, spins: false, open }
}

fn kinds() -> [Kind; 6] {
    [
        kind("plain", |place| synthetic("plain", place, 1000, None)),
        kind("slow", |place| synthetic("slow", place, 1050, None)),
        kind("refused", |_| Err(io::Error::other("not here"))),
        kind("mortal", |place| synthetic("mortal", place, 1000, Some(40))),
        kind("opens twice", |place| {
            let opened = WORLD.with_borrow_mut(|world| {
                let opened = world.commits.entry("opened").or_default();
                *opened += 1;
                *opened
            });
            match opened {
                1 | 2 => synthetic("opens twice", place, 1000, None),
                _ => Err(io::Error::other("no room")),
            }
        }),
        kind("plain again", |place| synthetic("plain again", place, 1000, None)),
    ]
}

fn run(company: Company, mut go: impl FnMut() -> Go) -> Times {
    WORLD.take();
    let folder = tempfile::tempdir_in(crate::scratch_dir()).expect("a folder");
    let state = FileState::Growing;
    let conditions = Conditions { record: 100, state, committers: 1, direct: true, burst: 1 };
    let (kinds, folder) = (&kinds()[..], folder.path());
    let field = Field { kinds, conditions: &conditions, folder, company, clock };
    let length = Length { blocks: 6, turns: 20 };
    field.run(length, &mut Rng::with_seed(4), &mut go).expect("a run")
}

#[test]
fn equal_subjects_come_out_equal_and_five_percent_show() {
    for company in [Company::Together, Company::Apart] {
        let times = run(company, || Go::On);
        let equal = times.arms.ratio(5, 0, Centre::Trimmed).unwrap();
        assert!((equal.value - 1.0).abs() < 0.005, "{company:?}: {equal}");
        let slow = times.arms.ratio(1, 0, Centre::Trimmed).unwrap();
        assert!(slow.low > 1.03 && slow.high < 1.07, "{company:?}: {slow}");
        assert_eq!(times.commits[0].len(), 6 * 6 * 20);
        let together = company == Company::Together;
        assert_eq!(WORLD.with_borrow(|world| world.most_open) > 1, together);
    }
}

#[test]
fn who_is_refused_or_dies_is_told_apart_and_the_others_go_on() {
    let times = run(Company::Together, || Go::On);
    assert_eq!(times.fates[2], Fate::Refused("not here".into()));
    assert!(matches!(&times.fates[3], Fate::Died(reason) if reason.contains("os error 5")));
    assert!(!times.commits[3].is_empty() && times.arms.ratio(3, 0, Centre::Mean).is_none());
    assert_eq!(times.fates[4], Fate::Died("no room".into()));
    assert_eq!(times.commits[4].len(), 40);
    assert_eq!(times.fates[5], Fate::Alive);
}

#[test]
fn a_run_can_be_sent_home_and_keeps_what_it_has() {
    let mut turns = 0;
    let times = run(Company::Together, || {
        turns += 1;
        if turns > 250 { Go::Home } else { Go::On }
    });
    assert_eq!(times.arms.blocks(), 0);
    assert!(!times.commits[0].is_empty() && times.commits[0].len() < 100);
    assert_eq!(WORLD.with_borrow(|world| world.open), 0, "all are closed");
}
