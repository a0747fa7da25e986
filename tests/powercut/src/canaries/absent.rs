//! A build without `--cfg canary`: there is no bug to plant.

use super::Meeting;
use crate::medium::FileSystem;
use crate::scenario::Scenario;

/// None of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Canary {}

impl Canary {
    pub(crate) const ALL: [Self; 0] = [];

    pub(crate) fn name(self) -> &'static str {
        match self {}
    }

    pub(crate) fn plant(self) {
        match self {}
    }
}

pub(super) fn met_by(canary: Canary) -> Option<Meeting> {
    match canary {}
}

pub(crate) fn provoked(canary: Canary, _: Scenario) -> Scenario {
    match canary {}
}

pub(crate) fn hidden(canary: Canary, _: FileSystem) -> bool {
    match canary {}
}
