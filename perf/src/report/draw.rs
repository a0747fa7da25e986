//! A figure as SVG text, narrow enough for a phone.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Figure, Row, Scale, Tone};

// Pixels at twice the natural size, so that heights are true to a part in seventy; the page scales
// them.
const WIDTH: i32 = 920;
const ROW: i32 = 48;
/// Of a bar of full height.
const BAR: i32 = 36;
/// From the top of a row to the foot of its bars.
const FOOT: i32 = 41;
const NOTES: i32 = 132;
const AXIS: i32 = 84;
const TOP: i32 = 40;
const LETTERS: i32 = 30;
const SMALL: i32 = 26;

/// Ink on paper in the light; `style.css` names the same colours for the dark.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const SOFT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const LINES: RGBColor = RGBColor(0xd0, 0xd7, 0xde);
const RULE: RGBColor = RGBColor(0xbc, 0x1c, 0x2c);

impl Tone {
    fn colour(self) -> RGBColor {
        match self {
            Self::Floor => RGBColor(0x6e, 0x77, 0x81),
            Self::Ours => RGBColor(0x09, 0x69, 0xda),
            Self::Standard => RGBColor(0xbc, 0x4c, 0x00),
            Self::Peer => RGBColor(0x1a, 0x7f, 0x37),
        }
    }
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// `None`: there is nothing to draw.
pub(super) fn svg(figure: &Figure) -> anyhow::Result<Option<String>> {
    let Some(range) = figure.range() else { return Ok(None) };
    let height = TOP + ROW * figure.rows.len() as i32 + AXIS;
    let mut text = String::new();
    {
        let size = (WIDTH as u32, height as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let plot = Plot { figure, range, left: names(figure), foot: height - AXIS };
        plot.axis(&root)?;
        for (index, row) in figure.rows.iter().enumerate() {
            plot.row(&root, row, TOP + ROW * index as i32)?;
        }
        plot.rule(&root)?;
        root.present()?;
    }
    Ok(Some(text))
}

/// Pixels for the names: about as many as the longest takes.
fn names(figure: &Figure) -> i32 {
    let longest = figure.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    (longest as i32 * 27 / 2 + 28).clamp(150, WIDTH / 2)
}

/// The place of everything in one figure.
struct Plot<'a> {
    figure: &'a Figure,
    range: (f64, f64),
    /// Where the names end.
    left: i32,
    /// Where the rows end.
    foot: i32,
}

impl Plot<'_> {
    /// Where a value stands.
    fn x(&self, value: f64) -> i32 {
        let (low, high) = self.range;
        let part = match self.figure.axis.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log => (value.max(low) / low).ln() / (high / low).ln(),
        };
        let width = f64::from(WIDTH - NOTES - self.left);
        self.left + (part.clamp(0.0, 1.0) * width).round() as i32
    }

    fn axis(&self, root: &Root<'_>) -> anyhow::Result<()> {
        let axis = &self.figure.axis;
        // Room for the widest word at the axis.
        let ends = [self.range.0, self.range.1];
        let written = if axis.only.is_empty() { &ends[..] } else { &axis.only };
        let words = written.iter().map(|value| (axis.tick)(*value).chars().count());
        let words = words.max().unwrap_or(0).clamp(3, 8) as i32;
        let gap = f64::from(words * 13 + 14) / f64::from(WIDTH - NOTES - self.left);
        for tick in axis.ticks(self.range, gap) {
            let x = self.x(tick);
            line(root, [(x, TOP), (x, self.foot)], LINES, 2)?;
            word(
                root,
                &(axis.tick)(tick),
                (x, self.foot + 8),
                (HPos::Center, VPos::Top),
                SMALL,
                INK,
            )?;
        }
        line(root, [(self.left, self.foot), (WIDTH - NOTES, self.foot)], SOFT, 2)?;
        let middle = (self.left + WIDTH - NOTES) / 2;
        let at = (HPos::Center, VPos::Top);
        word(root, axis.label, (middle, self.foot + 46), at, SMALL, SOFT)?;
        let at = (HPos::Right, VPos::Top);
        word(root, self.figure.notes, (WIDTH - 8, 4), at, SMALL, SOFT)
    }

    fn row(&self, root: &Root<'_>, row: &Row, top: i32) -> anyhow::Result<()> {
        let (foot, colour) = (top + FOOT, row.tone.colour());
        if !row.bars.is_empty() {
            line(root, [(self.left, foot), (WIDTH - NOTES, foot)], LINES, 1)?;
        }
        for bar in &row.bars {
            let height = (bar.height.clamp(0.0, 1.0) * f64::from(BAR)).round() as i32;
            let corners = [(self.x(bar.from), foot - height), (self.x(bar.to), foot)];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        // What is too low to be seen is still there: below the foot, heights mean nothing.
        let stretches = if self.figure.traced { self.stretches(row) } else { Vec::new() };
        for (from, to) in stretches {
            line(root, [(from, foot + 4), (to.max(from + 2), foot + 4)], colour, 3)?;
        }
        let middle = top + ROW / 2;
        for mark in &row.marks {
            let [low, at, high] = [mark.low, mark.at, mark.high].map(|value| self.x(value));
            line(root, [(low, middle), (high, middle)], colour, 4)?;
            line(root, [(at, middle - 14), (at, middle + 14)], colour, 8)?;
        }
        let at = (HPos::Right, VPos::Center);
        word(root, &row.name, (self.left - 12, middle), at, LETTERS, INK)?;
        word(root, &row.note, (WIDTH - 8, middle), at, LETTERS, INK)
    }

    /// From where to where bars that have any height follow each other.
    fn stretches(&self, row: &Row) -> Vec<(i32, i32)> {
        let mut stretches: Vec<(i32, i32)> = Vec::new();
        for bar in row.bars.iter().filter(|bar| bar.height > 0.0) {
            let (from, to) = (self.x(bar.from), self.x(bar.to));
            match stretches.last_mut() {
                Some((_, end)) if from <= *end + 1 => *end = (*end).max(to),
                _ => stretches.push((from, to)),
            }
        }
        stretches
    }

    fn rule(&self, root: &Root<'_>) -> anyhow::Result<()> {
        let Some(rule) = self.figure.axis.rule else { return Ok(()) };
        let x = self.x(rule);
        line(root, [(x, TOP), (x, self.foot)], RULE, 2)
    }
}

fn line(root: &Root<'_>, ends: [(i32, i32); 2], colour: RGBColor, px: u32) -> anyhow::Result<()> {
    Ok(root.draw(&PathElement::new(ends.to_vec(), colour.stroke_width(px)))?)
}

fn word(
    root: &Root<'_>,
    text: &str,
    place: (i32, i32),
    (h, v): (HPos, VPos),
    size: i32,
    colour: RGBColor,
) -> anyhow::Result<()> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(h, v));
    Ok(root.draw(&Text::new(text.to_owned(), place, style))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Axis, Bar};

    /// The heights of the bars as they are drawn.
    fn heights(bars: &[f64]) -> Vec<f64> {
        let bar = |(at, height): (usize, &f64)| Bar {
            from: at as f64,
            to: at as f64 + 1.0,
            height: *height,
        };
        let row = Row {
            name: "row".into(),
            tone: Tone::Ours,
            bars: bars.iter().enumerate().map(bar).collect(),
            marks: Vec::new(),
            note: String::new(),
        };
        let axis = Axis { label: "s", scale: Scale::Linear, ..Axis::default() };
        let figure = Figure { axis, rows: vec![row], ..Figure::default() };
        let svg = svg(&figure).unwrap().unwrap();
        let rects = svg.split("<rect").skip(1);
        let heights = rects.map(|rect| rect.split("height=\"").nth(1).unwrap());
        heights.map(|text| text.split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn heights_are_true_down_to_nothing() {
        assert_eq!(heights(&[0.0, 0.001, 0.5, 1.0]), [0.0, 0.0, 18.0, 36.0]);
        assert_eq!(heights(&[0.06]), [2.0]);
    }
}
