//! The ratios as bars, a panel for each figure: an SVG that is as readable on a dark page as on a light one.

use clap::ValueEnum as _;
use plotters::{
    prelude::{Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle, SVGBackend, Text},
    style::{
        TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{load::FIGURES, results::Results, servers::Server};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

const WIDTH: i32 = 960;
const COLUMNS: usize = 2;
const GAP: i32 = 24;
const LABELS: i32 = 176;
/// What stands behind the longest bar.
const RATIOS: i32 = 56;
const TITLE: i32 = 30;
const BAR: i32 = 20;

/// Stands for the colour of the page's text.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
const OURS: RGBColor = RGBColor(224, 122, 44);
const FLOOR: RGBColor = RGBColor(128, 136, 146);
const THEIRS: RGBColor = RGBColor(56, 132, 214);
const STYLE: &str = "<style>:root{color:#24292f}@media(prefers-color-scheme:dark){:root{color:#d7dde4}}</style>";

struct Panel {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    ratio: f64,
    color: RGBColor,
}

/// The picture.
pub fn svg(results: &Results) -> anyhow::Result<String> {
    let panels = panels(results);
    let height = |row: &[Panel]| TITLE + row.iter().map(|panel| panel.bars.len() as i32 * BAR).max().unwrap_or(0) + GAP;
    let all = panels.chunks(COLUMNS).map(height).sum::<i32>().max(GAP);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, all as u32)).into_drawing_area();
        let width = (WIDTH - GAP * (COLUMNS as i32 - 1)) / COLUMNS as i32;
        let mut top = 0;
        for row in panels.chunks(COLUMNS) {
            for (column, panel) in row.iter().enumerate() {
                draw(&area, panel, column as i32 * (width + GAP), top, width).map_err(|error| anyhow::anyhow!("no plot: {error}"))?;
            }
            top += height(row);
        }
    }
    let text = text.replace(INK_TEXT, "currentColor");
    // Into the outermost element.
    let at = text.find('>').map_or(0, |at| at + 1);
    Ok(format!("{}\n{STYLE}{}", &text[..at], &text[at..]))
}

fn panels(results: &Results) -> Vec<Panel> {
    let by_websocket = FIGURES.iter().map(|figure| {
        let bars = Server::value_variants().iter().filter(|server| server.floor() == Server::Bare).filter_map(|server| {
            let cell = results.cell(*server, figure)?;
            let ratio = if *server == Server::Bare { 1.0 } else { cell.ratio? };
            Some(Bar { label: plain(server.label()), ratio, color: color(*server) })
        });
        Panel { title: format!("{}: times the bare relay", figure.title), bars: bars.collect() }
    });
    let by_webtransport = FIGURES.iter().filter_map(|figure| {
        let ratio = results.cell(Server::SwitchboardWebtransport, figure)?.ratio?;
        Some(Bar { label: figure.short.to_owned(), ratio, color: OURS })
    });
    let by_webtransport =
        Panel { title: "Switchboard by WebTransport: times the bare relay there".to_owned(), bars: by_webtransport.collect() };
    by_websocket.chain([by_webtransport]).filter(|panel| panel.bars.iter().any(|bar| bar.color != FLOOR)).collect()
}

fn draw(area: &Area<'_>, panel: &Panel, left: i32, top: i32, width: i32) -> Result<(), Box<dyn std::error::Error>> {
    area.draw(&Text::new(panel.title.clone(), (left, top + TITLE / 2), style(17, HPos::Left)))?;
    let longest = panel.bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    for (number, bar) in panel.bars.iter().enumerate() {
        let middle = top + TITLE + number as i32 * BAR + BAR / 2;
        let begin = left + LABELS;
        let end = begin + (f64::from(width - LABELS - RATIOS) * bar.ratio / longest) as i32;
        area.draw(&Text::new(bar.label.clone(), (begin - 8, middle), style(15, HPos::Right)))?;
        area.draw(&Rectangle::new([(begin, middle - BAR / 2 + 3), (end.max(begin + 1), middle + BAR / 2 - 3)], bar.color.filled()))?;
        area.draw(&Text::new(format!("{:.2}", bar.ratio), (end + 6, middle), style(15, HPos::Left)))?;
    }
    Ok(())
}

fn color(server: Server) -> RGBColor {
    match server {
        Server::Bare => FLOOR,
        Server::Switchboard | Server::SwitchboardTls => OURS,
        _ => THEIRS,
    }
}

fn style(size: i32, across: HPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(across, VPos::Center))
}

fn plain(label: &str) -> String {
    label.replace(['*', '`'], "")
}
