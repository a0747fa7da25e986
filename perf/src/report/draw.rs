//! A figure as SVG text, narrow enough for a phone.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Figure, Row, Scale, Tone};

/// Pixels at the natural size; the page scales them.
const WIDTH: u32 = 460;
const ROW: u32 = 24;
const NOTES: u32 = 66;
const AXIS: u32 = 46;
const TOP: u32 = 6;
/// The part of a row that a bar of full height takes.
const FILL: f64 = 0.86;

/// Ink on paper in the light; `style.css` names the same colours for the dark.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
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

/// Pixels for the names: about as many as the longest takes.
fn names(figure: &Figure) -> u32 {
    let longest = figure.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    (longest as u32 * 27 / 4 + 14).clamp(80, WIDTH / 2)
}

/// `None`: there is nothing to draw.
pub(super) fn svg(figure: &Figure) -> anyhow::Result<Option<String>> {
    let Some((low, high)) = figure.range() else { return Ok(None) };
    let height = TOP + ROW * figure.rows.len() as u32 + AXIS;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let drawn = match figure.axis.scale {
            Scale::Linear => rows(&root, figure, low..high),
            Scale::Log => rows(&root, figure, (low..high).log_scale()),
        };
        drawn.and_then(|()| root.present().map_err(Into::into))?;
    }
    Ok(Some(text))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn rows<X>(root: &Area<'_>, figure: &Figure, x: X) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let count = figure.rows.len() as f64;
    let mut chart = ChartBuilder::on(root)
        .margin_top(TOP)
        .margin_right(NOTES)
        .x_label_area_size(AXIS)
        .y_label_area_size(names(figure))
        .build_cartesian_2d(x, count..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(5)
        .x_label_formatter(&|value| (figure.axis.tick)(*value))
        .x_desc(figure.axis.label)
        .axis_style(INK)
        .bold_line_style(LINES)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 15).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 16).into_font().color(&INK))
        .draw()?;
    for (index, row) in figure.rows.iter().enumerate() {
        let base = index as f64 + (1.0 + FILL) / 2.0;
        chart.draw_series(bars(row, base))?;
        chart.draw_series(marks(row, index as f64 + 0.5))?;
    }
    if let Some(rule) = figure.axis.rule {
        let line = PathElement::new(vec![(rule, 0.0), (rule, count)], RULE.stroke_width(1));
        chart.draw_series(std::iter::once(line))?;
    }
    words(root, figure)
}

fn bars(row: &Row, base: f64) -> impl Iterator<Item = Rectangle<(f64, f64)>> + '_ {
    row.bars.iter().map(move |bar| {
        let top = base - bar.height.clamp(0.06, 1.0) * FILL;
        Rectangle::new([(bar.from, top), (bar.to, base)], row.tone.colour().filled())
    })
}

/// A line over the interval and a block at the value.
fn marks(row: &Row, middle: f64) -> impl Iterator<Item = PathElement<(f64, f64)>> + '_ {
    let colour = row.tone.colour();
    row.marks.iter().flat_map(move |mark| {
        let interval = vec![(mark.low, middle), (mark.high, middle)];
        let value = vec![(mark.at, middle - 0.28), (mark.at, middle + 0.28)];
        [
            PathElement::new(interval, colour.stroke_width(2)),
            PathElement::new(value, colour.stroke_width(4)),
        ]
    })
}

/// Names at the left and figures at the right.
fn words(root: &Area<'_>, figure: &Figure) -> anyhow::Result<()> {
    let style = ("sans-serif", 16).into_font().color(&INK);
    let style = style.pos(Pos::new(HPos::Right, VPos::Center));
    let left = names(figure) as i32 - 6;
    for (index, row) in figure.rows.iter().enumerate() {
        let middle = (TOP + ROW * index as u32 + ROW / 2) as i32;
        root.draw(&Text::new(row.name.clone(), (left, middle), style.clone()))?;
        root.draw(&Text::new(row.note.clone(), (WIDTH as i32 - 4, middle), style.clone()))?;
    }
    Ok(())
}
