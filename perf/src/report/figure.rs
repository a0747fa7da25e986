//! What a figure shows, before it is drawn: named rows over one axis. Pure.

/// A row is a subject; along the axis stand bars and marks.
#[derive(Clone, Debug, Default)]
pub(super) struct Figure {
    pub(super) title: String,
    /// What to read off, in a sentence or two.
    pub(super) caption: String,
    pub(super) axis: Axis,
    pub(super) rows: Vec<Row>,
    /// What the notes of the rows are.
    pub(super) notes: &'static str,
    /// Whether a line below the foot of a row shows where there are bars, however low.
    pub(super) traced: bool,
}

/// The horizontal axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Quantity and unit.
    pub(super) label: &'static str,
    pub(super) scale: Scale,
    /// A line across all rows at this value.
    pub(super) rule: Option<f64>,
    /// How a value is written at the axis.
    pub(super) tick: fn(f64) -> String,
    /// What it spans whatever is drawn.
    pub(super) span: Option<(f64, f64)>,
    /// The only values that are written, where not every number makes sense.
    pub(super) only: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) tone: Tone,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
    /// The figure of the row that most readers look for, at the right.
    pub(super) note: String,
}

/// From, to, and how much of the row's height.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) height: f64,
}

/// A value, and the interval in which it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Whose row it is. Colours repeat what the names say, so that nothing depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Floor,
    Ours,
    Standard,
    Peer,
}

impl Tone {
    pub(super) fn of_family(family: &str) -> Self {
        match family {
            "floor" => Self::Floor,
            "writeflush" => Self::Ours,
            "standard library" => Self::Standard,
            _ => Self::Peer,
        }
    }

    /// Where only the name is kept.
    pub(super) fn of_name(name: &str) -> Self {
        match name {
            name if name.contains("floor") => Self::Floor,
            name if name.contains("writeflush") => Self::Ours,
            name if name.contains("BufWriter") => Self::Standard,
            _ => Self::Peer,
        }
    }
}

impl Default for Axis {
    fn default() -> Self {
        Self {
            label: "",
            scale: Scale::Linear,
            rule: None,
            tick: |value| value.to_string(),
            span: None,
            only: Vec::new(),
        }
    }
}

impl Axis {
    /// Where values are written: at round numbers, and no closer than this part of the axis.
    pub(super) fn ticks(&self, (low, high): (f64, f64), gap: f64) -> Vec<f64> {
        let inside = |value: &f64| (low..=high).contains(value);
        if !self.only.is_empty() {
            let all: Vec<f64> = self.only.iter().copied().filter(inside).collect();
            let every = (1..).find(|n| (all.len() / n) as f64 * gap <= 1.0).unwrap_or(1);
            return all.into_iter().step_by(every).collect();
        }
        let decade = |exponent: i32| 10f64.powi(exponent);
        match self.scale {
            Scale::Log => {
                let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let of = |steps: &[f64]| -> Vec<f64> {
                    let all =
                        decades.clone().flat_map(|e| steps.iter().map(move |s| s * decade(e)));
                    all.filter(inside).collect()
                };
                let place = |value: f64| (value / low).ln() / (high / low).ln();
                let fits = |ticks: &Vec<f64>| {
                    ticks.windows(2).all(|pair| place(pair[1]) - place(pair[0]) >= gap)
                };
                let candidates = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]].map(of);
                let [.., last] = &candidates;
                candidates.iter().find(|ticks| fits(ticks)).unwrap_or(last).clone()
            }
            Scale::Linear => {
                let least = (high - low) * gap;
                let unit = decade(least.log10().floor() as i32);
                let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * unit);
                let step = step.into_iter().find(|step| *step >= least).unwrap_or(high - low);
                let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
                (first..=last).map(|n| n as f64 * step).collect()
            }
        }
    }
}

impl Figure {
    /// From the least to the greatest value that is drawn. `None`: there is nothing to draw.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        if self.axis.span.is_some() && !self.rows.is_empty() {
            return self.axis.span;
        }
        let bars = self.rows.iter().flat_map(|row| &row.bars).flat_map(|bar| [bar.from, bar.to]);
        let marks = self.rows.iter().flat_map(|row| &row.marks).flat_map(|m| [m.low, m.high]);
        let mut drawn = bars.chain(marks).peekable();
        drawn.peek()?;
        let (low, high) = drawn
            .chain(self.axis.rule)
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        Some(match self.axis.scale {
            Scale::Log => (low.max(1e-3) / 1.1, high.max(1e-3) * 1.1),
            Scale::Linear if low == 0.0 => (0.0, high.max(1e-9)),
            Scale::Linear => {
                let margin = ((high - low) * 0.05).max(high.abs() * 0.005).max(1e-9);
                (low - margin, high + margin)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_spans_all_it_draws() {
        let row = |bars, marks| Row {
            name: "row".into(),
            tone: Tone::Ours,
            bars,
            marks,
            note: String::new(),
        };
        let axis = |scale, rule| Axis { scale, rule, ..Axis::default() };
        let mut figure = Figure {
            axis: axis(Scale::Linear, Some(1.0)),
            rows: vec![row(vec![], vec![])],
            ..Figure::default()
        };
        assert_eq!(figure.range(), None);
        figure.axis.rule = None;
        figure.rows.push(row(vec![Bar { from: 0.0, to: 2.0, height: 1.0 }], vec![]));
        assert_eq!(figure.range(), Some((0.0, 2.0)));
        figure.rows.push(row(vec![], vec![Mark { at: 3.0, low: -1.0, high: 4.0 }]));
        let (low, high) = figure.range().unwrap();
        assert!(low < -1.0 && high > 4.0);
        figure.axis = axis(Scale::Log, Some(1000.0));
        let (low, high) = figure.range().unwrap();
        assert!(low > 0.0 && high > 1000.0);
        figure.axis.span = Some((0.0, 20.0));
        assert_eq!(figure.range(), Some((0.0, 20.0)));
    }

    #[test]
    fn ticks_stand_at_round_numbers_and_are_few() {
        let of = |scale| Axis { scale, ..Axis::default() };
        let log = |low, high| of(Scale::Log).ticks((low, high), 0.12);
        assert_eq!(log(40.0, 600.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(log(40.0, 20_000.0), [100.0, 300.0, 1000.0, 3000.0, 10_000.0]);
        assert_eq!(log(40.0, 5e6).len(), 5);
        let linear = |low, high| of(Scale::Linear).ticks((low, high), 0.15);
        assert_eq!(linear(0.0, 20.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        for (low, high) in [(0.7, 1.75), (0.0, 0.3), (0.99, 1.004), (3.0, 1234.0)] {
            let ticks = linear(low, high);
            assert!((2..=7).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
        }
        let sizes = Axis { only: vec![1.0, 2.0, 3.0, 30.0], ..Axis::default() };
        assert_eq!(sizes.ticks((0.0, 10.0), 0.3), [1.0, 2.0, 3.0]);
        assert_eq!(sizes.ticks((0.0, 10.0), 0.5), [1.0, 3.0]);
    }
}
