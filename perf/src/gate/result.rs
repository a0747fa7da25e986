//! What a gate has found, as it is kept.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::judge::{self, Finding, Word};
use crate::document::Findings;

/// Evidence, and what follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Gate {
    pub(crate) base: String,
    pub(crate) candidate: String,
    pub(crate) seed: u64,
    pub(crate) verdict: Word,
    pub(crate) findings: Vec<Finding>,
    /// Since which commit the first regression is there, where that was asked for.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// Operations and tiers that could not be measured.
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) evidence: Vec<Evidence>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Findings for Gate {
    const KIND: &'static str = "gate";
}

impl Gate {
    pub(crate) fn new(base: String, candidate: String, seed: u64, skipped: Vec<Skipped>) -> Self {
        Self {
            base,
            candidate,
            seed,
            verdict: Word::NoVerdict,
            findings: Vec::new(),
            since: None,
            skipped,
            evidence: Vec::new(),
        }
    }

    /// Findings and verdict anew, from the evidence alone.
    pub(crate) fn judge(&mut self) {
        self.findings = self.evidence.iter().flat_map(judge::findings).collect();
        self.verdict = judge::verdict(&self.findings);
    }
}
