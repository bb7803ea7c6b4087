//! The report as a page or a picture that needs no other file: a percentile curve, and throughput and latency over time.
//!
//! Colours of text and lines are those of the page, light or dark: what is drawn in [`INK`] is replaced by `currentColor`.

use std::fmt::Write as _;

use plotters::{
    coord::ranged1d::Ranged,
    prelude::{
        AreaSeries, Cartesian2d, ChartBuilder, ChartContext, Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _,
        IntoLogRange as _, LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition,
    },
    style::TextStyle,
};
use switchboard::load::Outcome;

use super::report::Report;

/// A line: what it is called, its colour and its points.
type Series<'a> = (&'a str, RGBColor, &'a [(f64, f64)]);
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 340;
/// Stands for the colour of the page's text.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
const BLUE: RGBColor = RGBColor(56, 132, 214);
const ORANGE: RGBColor = RGBColor(224, 122, 44);
const STYLE: &str = "\
:root{color:#24292f;background:#fff;color-scheme:light dark}\
@media(prefers-color-scheme:dark){:root{color:#d7dde4;background:#16191d}}";

/// The whole file: a page, or the plots alone.
pub fn page(report: &Report, outcome: &Outcome, svg_alone: bool) -> anyhow::Result<String> {
    let plots = [latency(report, outcome)?, throughput(report)?, over_time(report)?];
    let shown: Vec<&str> = plots.iter().flatten().map(String::as_str).collect();
    if svg_alone {
        let height = HEIGHT as usize * shown.len();
        let mut all = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" viewBox=\"0 0 {WIDTH} {height}\"><style>{STYLE}</style>\n"
        );
        for (number, plot) in shown.iter().enumerate() {
            writeln!(all, "<g transform=\"translate(0 {})\">{plot}</g>", HEIGHT as usize * number)?;
        }
        return Ok(all + "</svg>\n");
    }
    let title = escape(&report.plan);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}body{{font:15px/1.5 system-ui,sans-serif;max-width:{WIDTH}px;margin:2rem auto;padding:0 1rem}}h1{{font-size:1.3rem}}\
         th{{text-align:left;font-weight:600;padding-right:1.5rem;vertical-align:top;white-space:nowrap}}svg{{width:100%;height:auto;margin-top:1rem}}</style>\n\
         <h1>{title}</h1>\n<table>\n"
    );
    for (name, value) in report.lines() {
        writeln!(page, "<tr><th>{name}<td>{}", escape(&value))?;
    }
    Ok(page + "</table>\n" + &shown.join("\n") + "\n</html>\n")
}

/// What part of the messages was faster: the further to the right, the rarer.
fn latency(report: &Report, outcome: &Outcome) -> anyhow::Result<Option<String>> {
    let histogram = &outcome.recording.latency;
    if histogram.is_empty() {
        return Ok(None);
    }
    // One in so many is slower, from one in one to the rarest that there is.
    let rarest = (histogram.len() as f64).max(10.0);
    let points: Vec<(f64, f64)> = (0..=400)
        .map(|step| rarest.powf(f64::from(step) / 400.0))
        .map(|one_in| (one_in, histogram.value_at_quantile(1.0 - 1.0 / one_in).max(1) as f64))
        .collect();
    let (low, high) = (points[0].1 * 0.8, points[points.len() - 1].1 * 1.25);
    draw(|area| {
        let mut chart = ChartBuilder::on(area);
        let mut chart = chart
            .caption(format!("Latency: {}", report.plan), caption())
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d((1.0..rarest).log_scale(), (low..high).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("percentile")
            .y_desc("latency")
            .x_label_formatter(&|one_in| percentile(*one_in))
            .y_label_formatter(&|micros| super::report::time(*micros as u64))
            .axis_style(INK.mix(0.6))
            .bold_line_style(INK.mix(0.15))
            .light_line_style(INK.mix(0.05))
            .max_light_lines(2)
            .label_style(label())
            .axis_desc_style(label())
            .draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?.label("latency").legend(legend(BLUE));
        finish(&mut chart)
    })
}

/// How much arrived, over time.
fn throughput(report: &Report) -> anyhow::Result<Option<String>> {
    let points: Vec<(f64, f64)> = report.over_time.iter().map(|moment| (moment.second, moment.delivered_per_second)).collect();
    lines(&points, "Throughput", "delivered a second", &|value| format!("{value:.0}"), &[("delivered", BLUE, &points)])
}

/// How long it took, over time.
fn over_time(report: &Report) -> anyhow::Result<Option<String>> {
    let of = |value: fn(&super::report::Moment) -> u64| -> Vec<(f64, f64)> {
        report.over_time.iter().map(|moment| (moment.second, value(moment) as f64)).collect()
    };
    let (p50, p99) = (of(|moment| moment.p50), of(|moment| moment.p99));
    let series = [("p99", ORANGE, &p99), ("p50", BLUE, &p50)].map(|(name, color, points)| (name, color, &points[..]));
    lines(&p99, "Latency over time", "latency", &|value| super::report::time(value as u64), &series)
}

/// A plot over time whose highest points are `highest`; nothing where there is but one.
fn lines(
    highest: &[(f64, f64)],
    title: &str,
    unit: &str,
    format: &dyn Fn(f64) -> String,
    series: &[Series<'_>],
) -> anyhow::Result<Option<String>> {
    let [(first, _), .., (last, _)] = highest else { return Ok(None) };
    let top = highest.iter().map(|(_, value)| *value).fold(1.0, f64::max) * 1.15;
    draw(|area| {
        let mut chart = ChartBuilder::on(area);
        let mut chart = chart
            .caption(title, caption())
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(*first..*last, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc(unit)
            .y_label_formatter(&|value| format(*value))
            .axis_style(INK.mix(0.6))
            .bold_line_style(INK.mix(0.15))
            .light_line_style(INK.mix(0.05))
            .max_light_lines(2)
            .label_style(label())
            .axis_desc_style(label())
            .draw()?;
        for (name, color, points) in series {
            let area = AreaSeries::new(points.iter().copied(), 0.0, color.mix(0.12)).border_style(color.stroke_width(2));
            chart.draw_series(area)?.label(*name).legend(legend(*color));
        }
        finish(&mut chart)
    })
}

fn draw(plot: impl FnOnce(&Area<'_>) -> Drawn) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    plot(&SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area()).map_err(|error| anyhow::anyhow!("--report: {error}"))?;
    Ok(Some(text.replace(INK_TEXT, "currentColor")))
}

fn finish<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(label()).border_style(INK.mix(0.3)).draw()?;
    Ok(())
}

fn legend(color: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
}

fn caption() -> TextStyle<'static> {
    ("sans-serif", 16).into_font().color(&INK)
}

fn label() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

fn percentile(one_in: f64) -> String {
    let percent = 100.0 - 100.0 / one_in;
    if one_in < 100.0 { format!("{percent:.0} %") } else { format!("{percent} %") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
