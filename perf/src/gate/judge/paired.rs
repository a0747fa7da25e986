//! The verdict on times of three programs that were measured side by side: the base, the base once
//! more (the null arm), and the candidate. Pure.
//!
//! A *stage* is judged alone: where the null arm moved, or so much time was stolen that nobody
//! knows what was measured, it says nothing; where the candidate is surely slower, by nearly as much
//! as the limit, it is a suspicion; else it is quiet, if it could have seen such a change.
//! A suspicion has to come twice, from two stages that share no process and no turn, and what both
//! saw together has to be more than the limit, before it is a regression.

use writeflush_workloads::{Arms, Centre, Ratio};

use super::{Change, Finding, Tier, Word};
use crate::gate::evidence::{ARMS, BASE, CANDIDATE, NULL, Paired, Stage};

/// When a change is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Slower by more than this is a regression: of the logarithm of a typical turn.
    pub(crate) typical: f64,
    /// Of the mean of all logarithms, which sees what befalls one turn in twenty.
    pub(crate) mean: f64,
    /// Two equal programs may lie so far apart.
    pub(crate) null: f64,
    /// An interval that reaches further than this to each side could not have seen the change.
    pub(crate) reach: f64,
    /// Of the time of all processors, what the host may give to others.
    pub(crate) steal_percent: f64,
    /// Stages that may say nothing before there is no verdict.
    pub(crate) unsure: usize,
}

impl Limits {
    /// For processes that take turns, so that a slowdown by more than this is seen.
    pub(crate) fn turns(percent: f64) -> Self {
        let typical = percent / 100.0;
        let (mean, null, reach) = (typical * 1.1, typical / 2.0, typical);
        Self { typical, mean, null, reach, steal_percent: 5.0, unsure: 2 }
    }

    fn of(&self, centre: Centre) -> f64 {
        match centre {
            Centre::Trimmed => self.typical,
            Centre::Mean => self.mean,
        }
    }

    /// For processes one after the other, of which half as much is seen.
    pub(crate) fn processes(percent: f64) -> Self {
        let typical = percent / 100.0 * 2.0;
        let (mean, null, reach) = (typical, typical / 2.0, typical);
        Self { typical, mean, null, reach, steal_percent: 5.0, unsure: 1 }
    }
}

/// The ends of a 95 % interval lie 2.0 to 2.3 standard errors out, with the blocks that a stage
/// has. So much further out lies one that is left by chance in one of 200 stages on one side.
const SURE: f64 = 1.4;

/// How a reason begins that is the host's.
pub(crate) const STOLEN: &str = "the host took";

/// The share of the limit from which on a stage is suspicious. If it were the whole limit, a change
/// a little above it would have to be lucky twice.
const SUSPICIOUS: f64 = 0.75;

/// The ways of looking at a stage.
const CENTRES: [Centre; 2] = [Centre::Trimmed, Centre::Mean];

/// What one stage says.
#[derive(Clone, Debug, PartialEq)]
enum Look {
    Quiet(Change),
    /// Slower: in which ways of looking, and by how much.
    Suspicious([Option<Ratio>; CENTRES.len()]),
    /// It says nothing; why.
    Unsure(String),
}

/// What is to be done after these stages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Another stage.
    Measure,
    Over(Verdict),
}

/// With its reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) word: Word,
    pub(crate) change: Option<Change>,
    pub(crate) reason: String,
}

/// After each stage: whether another one is needed.
pub(crate) fn next(stages: &[Stage], limits: &Limits) -> Next {
    let mut suspected = None;
    let mut unsure = 0;
    for stage in stages {
        let nothing = match look(stage, limits) {
            Look::Unsure(why) => why,
            Look::Quiet(change) => {
                let reason = match suspected {
                    None => "not slower by more than the limit",
                    Some(_) => "a first stage was slower, an independent second one was not",
                };
                return over(Word::Pass, Some(change), reason.into());
            }
            Look::Suspicious(now) => {
                let Some(before) = suspected.replace(now) else { continue };
                match together(before, now, limits) {
                    Some(decided) => return Next::Over(decided),
                    None => "slower in one way in one stage, in another way in the next".into(),
                }
            }
        };
        unsure += 1;
        if unsure > limits.unsure {
            let change = candidate(&arms(stage), Centre::Trimmed).map(change);
            return over(Word::NoVerdict, change, nothing);
        }
    }
    Next::Measure
}

/// What two suspicious stages say together. `None`: each was suspicious in another way, which
/// confirms nothing.
fn together(
    first: [Option<Ratio>; CENTRES.len()],
    second: [Option<Ratio>; CENTRES.len()],
    limits: &Limits,
) -> Option<Verdict> {
    let twice = CENTRES.into_iter().zip(first.into_iter().zip(second));
    let twice = twice.filter_map(|(centre, (first, second))| Some((centre, both(first?, second?))));
    let mut passed = None;
    for (centre, ratio) in twice {
        let change = Some(change(ratio));
        if ratio.value.ln() > limits.of(centre) {
            let how = match centre {
                Centre::Trimmed => "slower in a typical turn",
                Centre::Mean => "slower in the mean, by what befalls few turns",
            };
            let reason = format!("{how}, in two stages");
            return Some(Verdict { word: Word::Regression, change, reason });
        }
        let reason = "slower in two stages, but not by more than the limit".into();
        passed.get_or_insert(Verdict { word: Word::Pass, change, reason });
    }
    passed
}

/// What two stages that share nothing have seen, each as good as the other.
fn both(first: Ratio, second: Ratio) -> Ratio {
    let centre = (first.value.ln() + second.value.ln()) / 2.0;
    let to_each_side = reach(&first).hypot(reach(&second)) / 2.0;
    Ratio {
        value: centre.exp(),
        low: (centre - to_each_side).exp(),
        high: (centre + to_each_side).exp(),
        blocks: first.blocks + second.blocks,
    }
}

fn over(word: Word, change: Option<Change>, reason: String) -> Next {
    Next::Over(Verdict { word, change, reason })
}

/// The finding on evidence that is whole; on a part of it there is no verdict yet.
pub(crate) fn finding(tier: Tier, paired: &Paired, limits: &Limits) -> Finding {
    let verdict = match next(&paired.stages, limits) {
        Next::Over(verdict) => verdict,
        Next::Measure => {
            let reason = "it was not measured to the end".into();
            Verdict { word: Word::NoVerdict, change: None, reason }
        }
    };
    Finding {
        operation: paired.operation.clone(),
        tier,
        quantity: paired.quantity.clone(),
        word: verdict.word,
        change: verdict.change,
        reason: verdict.reason,
    }
}

/// How many times as long as the base the candidate takes in a typical turn. `None`: the stage is
/// nothing to go by.
pub(crate) fn typical(stage: &Stage, limits: &Limits) -> Option<f64> {
    let arms = arms(stage);
    let null = arms.ratio(NULL, BASE, Centre::Trimmed)?;
    let typical = candidate(&arms, Centre::Trimmed)?;
    (unfit(stage, &null, limits).is_none() && reach(&typical) <= limits.reach)
        .then_some(typical.value)
}

fn look(stage: &Stage, limits: &Limits) -> Look {
    let arms = arms(stage);
    let null = arms.ratio(NULL, BASE, Centre::Trimmed);
    let typical = candidate(&arms, Centre::Trimmed);
    let (Some(null), Some(typical)) = (null, typical) else {
        return Look::Unsure("too few turns to judge".into());
    };
    if let Some(why) = unfit(stage, &null, limits) {
        return Look::Unsure(why);
    }
    let suspicions = CENTRES.map(|centre| {
        let surely_slower = |ratio: &Ratio| {
            let (value, low) = (ratio.value.ln(), ratio.low.ln());
            value > SUSPICIOUS * limits.of(centre) && value - SURE * (value - low) > 0.0
        };
        candidate(&arms, centre).filter(surely_slower)
    });
    if suspicions.iter().any(Option::is_some) {
        return Look::Suspicious(suspicions);
    }
    let reach = reach(&typical);
    if reach > limits.reach {
        return Look::Unsure(format!(
            "the interval reaches {:.1} % to each side, too far to see a change of {:.1} %",
            reach * 100.0,
            limits.typical * 100.0
        ));
    }
    Look::Quiet(change(typical))
}

/// How far its interval reaches to each side.
fn reach(ratio: &Ratio) -> f64 {
    (ratio.high.ln() - ratio.low.ln()) / 2.0
}

/// Why nothing of this stage counts.
fn unfit(stage: &Stage, null: &Ratio, limits: &Limits) -> Option<String> {
    let moved = null.value.ln().abs();
    if moved > limits.null {
        return Some(format!("two equal programs lay {:.1} % apart", moved * 100.0));
    }
    let least = if null.value > 1.0 { null.low.ln() } else { -null.high.ln() };
    if least > limits.null / 2.0 {
        return Some(format!("two equal programs lay at least {:.1} % apart", least * 100.0));
    }
    match stage.steal_percent {
        Some(stolen) if stolen > limits.steal_percent => {
            Some(format!("{STOLEN} {stolen:.0} % of the time away"))
        }
        _ => None,
    }
}

/// A fourth arm stands for both of the base: what they take together has less noise than either.
const BOTH: usize = ARMS;

fn arms(stage: &Stage) -> Arms {
    let mut arms = Arms::new(ARMS + 1);
    for block in &stage.blocks {
        for lap in block {
            for turn in &lap.0 {
                (0..ARMS).for_each(|arm| arms.add(arm, turn[arm]));
                arms.add(BOTH, (turn[BASE] * turn[NULL]).sqrt());
            }
            arms.end_lap();
        }
        arms.end_block();
    }
    arms
}

fn candidate(arms: &Arms, centre: Centre) -> Option<Ratio> {
    arms.ratio(CANDIDATE, BOTH, centre)
}

fn change(ratio: Ratio) -> Change {
    let [percent, low, high] = [ratio.value, ratio.low, ratio.high].map(|r| (r - 1.0) * 100.0);
    Change { percent, low, high }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::gate::evidence::{LIMIT_PERCENT, Lap};

    /// A machine on which an operation takes 100 µs and something.
    #[derive(Clone, Copy)]
    struct Machine {
        /// The null arm is slower by this.
        null: f64,
        candidate: f64,
        /// One turn in twenty of the candidate takes so many times as long.
        seldom: f64,
        /// The spread of a turn.
        noise: f64,
        /// That of a block, which all turns of an arm in it share.
        weather: f64,
        steal: f64,
    }

    fn usual() -> Limits {
        Limits::turns(LIMIT_PERCENT)
    }

    const IDLE: Machine =
        Machine { null: 1.0, candidate: 1.0, seldom: 1.0, noise: 0.1, weather: 0.002, steal: 0.1 };

    fn normal(random: &mut Rng) -> f64 {
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    fn stage(machine: Machine, seed: u64) -> Stage {
        let mut random = Rng::with_seed(seed);
        let blocks = (0..24).map(|_| {
            let weather = [(); ARMS].map(|()| 1.0 + machine.weather * normal(&mut random));
            let turn = |random: &mut Rng| {
                let seldom = if random.u8(..20) == 0 { machine.seldom } else { 1.0 };
                let slower = [1.0, machine.null, machine.candidate * seldom];
                let took = |arm: usize| {
                    let noise = (machine.noise * normal(random)).exp();
                    100_000.0 * slower[arm] * weather[arm] * noise
                };
                [0, 1, 2].map(took)
            };
            let lap = |random: &mut Rng| Lap((0..14).map(|_| turn(random)).collect());
            (0..3).map(|_| lap(&mut random)).collect()
        });
        Stage { steal_percent: Some(machine.steal), blocks: blocks.collect() }
    }

    /// The whole course, and how many stages it took.
    fn course(mut machine: impl FnMut(usize) -> Machine, seed: u64) -> (Verdict, usize) {
        let mut stages = Vec::new();
        loop {
            match next(&stages, &usual()) {
                Next::Over(verdict) => return (verdict, stages.len()),
                Next::Measure => {
                    let number = stages.len();
                    stages.push(stage(machine(number), seed * 100 + number as u64));
                }
            }
        }
    }

    fn words(machine: Machine, count: u64) -> [u64; 3] {
        let mut found = [0; 3];
        for seed in 0..count {
            found[course(|_| machine, seed).0.word as usize] += 1;
        }
        found
    }

    #[test]
    fn equal_programs_pass_and_slower_ones_do_not() {
        assert_eq!(words(IDLE, 300), [300, 0, 0]);
        for slower in [1.05, 1.1, 1.2] {
            let [passed, undecided, failed] = words(Machine { candidate: slower, ..IDLE }, 100);
            assert_eq!((passed, undecided, failed), (0, 0, 100), "{slower}");
        }
        let [.., failed] = words(Machine { candidate: 1.025, ..IDLE }, 100);
        assert!(failed >= 80, "{failed}");
        // Nearly as much as the limit: suspicious, but not more than the limit in two stages.
        let [passed, _, failed] = words(Machine { candidate: 1.017, ..IDLE }, 100);
        assert!(passed >= 90 && failed <= 10, "{passed} {failed}");
        assert_eq!(words(Machine { candidate: 0.9, ..IDLE }, 100), [100, 0, 0]);
    }

    #[test]
    fn the_mean_sees_what_befalls_one_turn_in_twenty() {
        let [_, _, failed] = words(Machine { seldom: 2.0, ..IDLE }, 100);
        assert!(failed >= 80, "{failed}");
        let (verdict, _) = course(|_| Machine { seldom: 2.0, ..IDLE }, 1);
        assert!(verdict.reason.contains("few turns"), "{}", verdict.reason);
    }

    #[test]
    fn where_the_null_arm_moves_there_is_no_verdict_and_no_red() {
        let moved = Machine { null: 1.03, candidate: 1.2, ..IDLE };
        let (verdict, stages) = course(|_| moved, 1);
        assert_eq!((verdict.word, stages), (Word::NoVerdict, 3));
        assert!(verdict.reason.contains("two equal programs"), "{}", verdict.reason);
        let stolen = Machine { steal: 20.0, ..IDLE };
        assert_eq!(words(stolen, 5), [0, 5, 0]);
    }

    #[test]
    fn a_noisy_machine_has_no_verdict_and_never_a_false_red() {
        let noisy = Machine { noise: 0.4, weather: 0.06, ..IDLE };
        let [_, undecided, failed] = words(noisy, 300);
        assert_eq!(failed, 0);
        assert!(undecided > 150, "{undecided}");
        // What is large enough is seen there too, or nothing is said.
        let [passed, ..] = words(Machine { candidate: 1.2, ..noisy }, 100);
        assert_eq!(passed, 0);
    }

    #[test]
    fn one_bad_stage_is_measured_again() {
        let bad_first = |number| if number == 0 { Machine { null: 1.05, ..IDLE } } else { IDLE };
        let (verdict, stages) = course(bad_first, 1);
        assert_eq!((verdict.word, stages), (Word::Pass, 2));
    }

    #[test]
    fn a_suspicion_that_does_not_come_twice_is_none() {
        let slow_first =
            |number| if number == 0 { Machine { candidate: 1.05, ..IDLE } } else { IDLE };
        let (verdict, stages) = course(slow_first, 1);
        assert_eq!((verdict.word, stages), (Word::Pass, 2));
        assert!(verdict.reason.contains("second"), "{}", verdict.reason);
    }

    #[test]
    fn evidence_that_is_not_whole_is_no_pass() {
        let paired = Paired {
            operation: "flush".into(),
            quantity: "time".into(),
            times: 1,
            limit_percent: LIMIT_PERCENT,
            stages: vec![stage(Machine { candidate: 1.05, ..IDLE }, 1)],
        };
        let found = finding(Tier::Turns, &paired, &usual());
        assert_eq!(found.word, Word::NoVerdict);
        let nothing = Paired { stages: vec![Stage::default(); 3], ..paired };
        let found = finding(Tier::Turns, &nothing, &usual());
        assert_eq!(found.word, Word::NoVerdict);
    }
}
