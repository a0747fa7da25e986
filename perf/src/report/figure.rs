//! What a figure shows, before it is drawn: named rows over one axis. Pure.

/// A row is a subject; along the axis stand bars and marks.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) title: String,
    /// What the figure means, in a sentence.
    pub(super) caption: String,
    pub(super) axis: Axis,
    pub(super) rows: Vec<Row>,
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

impl Figure {
    /// From the least to the greatest value that is drawn. `None`: there is nothing to draw.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        let bars = self.rows.iter().flat_map(|row| &row.bars).flat_map(|bar| [bar.from, bar.to]);
        let marks = self.rows.iter().flat_map(|row| &row.marks).flat_map(|m| [m.low, m.high]);
        let drawn = bars.chain(marks);
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
                let margin = ((high - low) * 0.05).max(high.abs() * 0.005);
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
        let axis = |scale, rule| Axis { label: "", scale, rule, tick: |v| v.to_string() };
        let mut figure = Figure {
            title: String::new(),
            caption: String::new(),
            axis: axis(Scale::Linear, None),
            rows: vec![row(vec![], vec![])],
        };
        assert_eq!(figure.range(), None);
        figure.rows.push(row(vec![Bar { from: 0.0, to: 2.0, height: 1.0 }], vec![]));
        assert_eq!(figure.range(), Some((0.0, 2.0)));
        figure.rows.push(row(vec![], vec![Mark { at: 3.0, low: -1.0, high: 4.0 }]));
        let (low, high) = figure.range().unwrap();
        assert!(low < -1.0 && high > 4.0);
        figure.axis = axis(Scale::Log, Some(1000.0));
        let (low, high) = figure.range().unwrap();
        assert!(low > 0.0 && high > 1000.0);
    }
}
