//! Whether a cell says anything: two equal rows have to come out equal. Pure.

use super::result::{Noise, Ratio};

/// How far the p50 of two equal rows may lie apart.
const BAR: f64 = 0.02;

/// What the ratio of two equal rows says about the others.
pub(crate) fn judge(ratio: Option<Ratio>) -> Noise {
    let Some(ratio) = ratio else {
        let reason = "no verdict: too few turns to see the noise; give --samples or --for more";
        return Noise { ratio: None, no_verdict: Some(reason.into()) };
    };
    let typical = ratio.p50.map_or(ratio.value, |p50| p50.value);
    let off = (typical - 1.0).abs();
    let no_verdict = if off > BAR {
        Some(format!("two equal rows lie {:.1} % apart", off * 100.0))
    } else if ratio.low > 1.0 || ratio.high < 1.0 {
        Some(format!(
            "the ratio of two equal rows is {:.3}, and its interval, {:.3} to {:.3}, leaves out 1",
            ratio.value, ratio.low, ratio.high
        ))
    } else {
        None
    };
    let no_verdict = no_verdict.map(|why| {
        format!("no verdict: {why}: measure longer, or when the machine has less to do")
    });
    Noise { ratio: Some(ratio), no_verdict }
}

#[cfg(test)]
mod tests {
    use super::super::result::Interval;
    use super::*;

    fn found(value: f64, low: f64, high: f64, p50: Option<f64>) -> Noise {
        let mean = Interval { value, low, high };
        let p50 = p50.map(|value| Interval { value, low: value, high: value });
        judge(Some(Ratio { to: "itself".into(), value, low, high, mean, p50, blocks: 10 }))
    }

    #[test]
    fn equal_rows_that_differ_leave_no_verdict() {
        assert_eq!(found(1.003, 0.998, 1.008, Some(1.01)).no_verdict, None);
        let far = found(1.003, 0.998, 1.008, Some(0.95)).no_verdict.unwrap();
        assert!(far.contains("5.0 %"), "{far}");
        let sure = found(1.01, 1.005, 1.015, Some(1.01)).no_verdict.unwrap();
        assert!(sure.contains("leaves out 1"), "{sure}");
        // Several committers have no p50 ratio: their throughput decides.
        assert!(found(0.97, 0.9, 1.1, None).no_verdict.is_some());
        assert!(judge(None).no_verdict.unwrap().contains("too few"));
    }
}
