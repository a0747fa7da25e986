//! `report`: result files become one page that opens from the disk, with no network and no script.

mod compare;
mod draw;
mod figure;
mod gate;
mod pace;
mod page;
mod section;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::page::Part;
use self::section::{Panel, Section, Table};
use crate::compare::Comparison;
use crate::document::{self, Document, Findings};
use crate::error::Bad;
use crate::gate::Gate;
use crate::output::say;
use crate::pace::Pace;
use crate::probe::{Check, Probe};
use crate::verdict::Verdict;

const EXAMPLES: &str = "\
Examples:
  writeflush report probe.json data.json pace.json --html data.html

Exit status: 0 the page is written; 2 a file is no result of this tool, or the page can't be written";

/// Make a page with plots from result files of compare, gate, pace and probe
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Result files (see --json of compare, gate, pace and probe)
    #[arg(required = true)]
    results: Vec<PathBuf>,

    /// The page
    #[arg(long, value_name = "FILE")]
    html: PathBuf,

    /// Overwrite the page
    #[arg(long)]
    force: bool,
}

/// Makes the page.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    document::check_free([&*args.html], args.force)?;
    let parts = args.results.iter().map(|path| part(path)).collect::<Result<Vec<_>, _>>()?;
    document::save(&args.html, &page::html(&parts)?, args.force)?;
    say(format_args!("written to {}", args.html.display()));
    Ok(ExitCode::SUCCESS)
}

/// One result file.
fn part(path: &Path) -> Result<Part, Bad> {
    let text = document::read(path)?;
    match document::kind(&text, path)?.as_str() {
        Comparison::KIND => of(&text, path, |_| "What a flush costs", compare::sections),
        Gate::KIND => of(&text, path, |_| "Whether it got slower", gate::sections),
        Pace::KIND => of(&text, path, pace::title, pace::sections),
        Probe::KIND => of(&text, path, |_| "What the place promises", probe),
        other => Err(Bad::new(format!(
            "{} holds a result of `{other}`, of which no page is made",
            path.display()
        ))),
    }
}

fn of<R: Findings>(
    text: &str,
    path: &Path,
    title: impl FnOnce(&R) -> &'static str,
    sections: impl FnOnce(&R) -> Vec<Section>,
) -> Result<Part, Bad> {
    let document = Document::<R>::parse(text, path)?;
    Ok(Part {
        title: title(&document.result),
        made: document.made,
        command: document.command,
        environment: document.environment,
        sections: sections(&document.result),
    })
}

fn probe(probe: &Probe) -> Vec<Section> {
    let check = |check: &Check| {
        let shown = |seen: Option<u64>| seen.map_or("not seen".into(), |seen| seen.to_string());
        let (seen, fua) = (shown(check.device_flushes), shown(check.fua_writes));
        let Verdict { word, reason } = check.verdict.clone();
        let asked = check.fences.to_string();
        vec![check.subject.clone(), asked, seen, fua, word.to_string(), reason]
    };
    let header =
        ["", "fences asked", "device flushes seen", "writes with FUA seen", "verdict", "reason"];
    let checks = Table {
        title: "Fences, and what the devices counted".into(),
        header: header.map(Into::into).to_vec(),
        rows: probe.checks.iter().map(check).collect(),
        notes: Vec::new(),
    };
    let facts = Table {
        title: "Backends".into(),
        header: vec![String::new(), "finding".into()],
        rows: probe.facts().into_iter().map(|(name, value)| vec![name, value]).collect(),
        notes: Vec::new(),
    };
    vec![Section {
        title: "Do fences reach the device?".into(),
        prose: vec![
            "HONEST: every fence was seen as a flush at the last device in sight, or there is \
             nothing to flush. NOOP: it was not, and a power cut can take what was called durable. \
             UNVERIFIABLE: nothing in sight would decide. Whether a drive obeys a flush, no program \
             can see."
                .into(),
        ],
        panels: [checks, facts].map(|table| Panel { table, ..Panel::default() }).to_vec(),
    }]
}
