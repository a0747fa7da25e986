//! Slips in what one thread hands to another, which only a checker of interleavings or memory sees.

/// A planted slip: each breaks a promise in some orders of events only. None of them is caught by a
/// power cut, nor by a test that runs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(canary), allow(dead_code, reason = "`--cfg canary` names them all"))]
pub enum Slip {
    /// A producer that shares a stream never wakes the driver.
    SilentCommit,
    /// Where callers drive, those who found the driver taken are not told that it is free.
    SilentLead,
    /// Tasks that await a fence are not woken.
    SilentFutures,
    /// The driver looks for work, and only then says that it sleeps.
    LateSleep,
    /// A waiter's count of itself is not ordered before its look.
    UnfencedWait,
    /// The driver's look for work is not ordered behind its word that it sleeps.
    UnfencedSleep,
    /// The driver's look at a stream is not ordered behind its taking of the stream's ring.
    UnfencedTaking,
    /// What a task looks at is not ordered behind its registration.
    UnfencedFuture,
    /// A producer's bytes are not ordered before the count that hands them over.
    RelaxedCommit,
    /// The driver's look at the bytes is not ordered behind its look at how far they go.
    RelaxedLook,
    /// The producer of a pre-roll overwrites the oldest record though a trigger came between.
    BlindOverwrite,
    /// Memory and file are let go while the kernel holds operations on them.
    FreedEarly,
}

#[cfg(canary)]
mod planted {
    use std::sync::OnceLock;

    use super::Slip;

    /// Names one in the environment.
    const VARIABLE: &str = "WRITEFLUSH_SLIP";

    impl Slip {
        /// Every one.
        pub const ALL: [Self; 12] = [
            Self::SilentCommit,
            Self::SilentLead,
            Self::SilentFutures,
            Self::LateSleep,
            Self::UnfencedWait,
            Self::UnfencedSleep,
            Self::UnfencedTaking,
            Self::UnfencedFuture,
            Self::RelaxedCommit,
            Self::RelaxedLook,
            Self::BlindOverwrite,
            Self::FreedEarly,
        ];

        /// Its name in the environment and in reports.
        pub fn name(self) -> &'static str {
            match self {
                Self::SilentCommit => "silent-commit",
                Self::SilentLead => "silent-lead",
                Self::SilentFutures => "silent-futures",
                Self::LateSleep => "late-sleep",
                Self::UnfencedWait => "unfenced-wait",
                Self::UnfencedSleep => "unfenced-sleep",
                Self::UnfencedTaking => "unfenced-taking",
                Self::UnfencedFuture => "unfenced-future",
                Self::RelaxedCommit => "relaxed-commit",
                Self::RelaxedLook => "relaxed-look",
                Self::BlindOverwrite => "blind-overwrite",
                Self::FreedEarly => "freed-early",
            }
        }

        /// Whether the environment variable `WRITEFLUSH_SLIP` names it: for the whole life of a
        /// process, since some of its writers are made before a test could ask.
        pub(crate) fn is_planted(self) -> bool {
            static PLANTED: OnceLock<Option<Slip>> = OnceLock::new();
            *PLANTED.get_or_init(asked_for) == Some(self)
        }
    }

    fn asked_for() -> Option<Slip> {
        let name = std::env::var(VARIABLE).ok()?;
        let known = Slip::ALL.into_iter().find(|slip| slip.name() == name);
        Some(known.unwrap_or_else(|| panic!("{VARIABLE}: there is no slip named {name}")))
    }
}

#[cfg(not(canary))]
impl Slip {
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}
