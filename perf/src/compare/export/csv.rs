//! Comma-separated values: a line for each row that has figures; what is not known is empty.

use anyhow::Context;
use serde::Serialize;

use super::super::result::{Cell, Comparison, Figures, Row};
use crate::document::Document;

#[derive(Serialize)]
struct Line<'a> {
    record_bytes: usize,
    file_state: &'a str,
    committers: usize,
    direct: bool,
    subject: &'a str,
    family: &'a str,
    class: &'a str,
    commits: u64,
    mean_us: f64,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p99_9_us: Option<f64>,
    max_us: f64,
    ratio_to: Option<&'a str>,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    ratio_p50: Option<f64>,
    ratio_mean: Option<f64>,
    mb_per_s: f64,
    cpu_s_per_gb: Option<f64>,
    system_calls_per_commit: Option<f64>,
    device_flushes_per_commit: Option<f64>,
    device_bytes_per_byte: Option<f64>,
    verdict: String,
    no_verdict: Option<&'a str>,
}

pub(super) fn text(document: &Document<Comparison>) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for cell in &document.result.cells {
        for class in cell.classes() {
            for (row, figures) in cell.measured(class) {
                writer.serialize(line(cell, row, figures)).context("a row can't be written")?;
            }
        }
    }
    let bytes = writer.into_inner().context("the rows can't be written")?;
    String::from_utf8(bytes).context("the rows are no text")
}

fn line<'a>(cell: &'a Cell, row: &'a Row, figures: &'a Figures) -> Line<'a> {
    let (flush, cost, ratio) = (&figures.flush_us, &figures.cost, figures.ratio.as_ref());
    Line {
        record_bytes: cell.record_bytes,
        file_state: &cell.file_state,
        committers: cell.committers,
        direct: cell.direct,
        subject: &row.subject,
        family: &row.family,
        class: &row.class,
        commits: figures.commits,
        mean_us: flush.mean,
        p50_us: flush.p50,
        p90_us: flush.p90,
        p99_us: flush.p99,
        p99_9_us: flush.p99_9,
        max_us: flush.max,
        ratio_to: ratio.map(|ratio| ratio.to.as_str()),
        ratio: ratio.map(|ratio| ratio.value),
        ratio_low: ratio.map(|ratio| ratio.low),
        ratio_high: ratio.map(|ratio| ratio.high),
        ratio_p50: ratio.and_then(|ratio| Some(ratio.p50?.value)),
        ratio_mean: ratio.map(|ratio| ratio.mean.value),
        mb_per_s: figures.mb_per_s,
        cpu_s_per_gb: cost.cpu_s_per_gb.map(|spread| spread.median),
        system_calls_per_commit: cost.system_calls_per_commit,
        device_flushes_per_commit: cost.device_flushes_per_commit,
        device_bytes_per_byte: cost.device_bytes_per_byte,
        verdict: figures.verdict.word.to_string(),
        no_verdict: cell.noise.no_verdict.as_deref(),
    }
}
