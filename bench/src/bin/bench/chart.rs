//! Draws the results as SVG bars: a file for each group, a row of bars for each figure, a column
//! for each number of threads. Colours follow the reader's light or dark setting.

use std::fs;
use std::path::Path;

use crate::measure::{Figure, Measure};
use crate::peer::Peer;
use crate::results::Results;
use crate::summary::{Spread, Summary, short};
use crate::tables::threads_in_words;

const COLUMN: f64 = 440.0;
const LABEL: f64 = 76.0;
const NUMBER: f64 = 64.0;
const BAR: f64 = 16.0;
const STEP: f64 = 21.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 16.0;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.number { fill: #57606a }
.ours { fill: #0f7b6c }
.rival { fill: #8c959f }
.direct { fill: #c4cbd2 }
.spread { stroke: #24292f; stroke-width: 1.2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.number { fill: #9da7b1 }
.ours { fill: #2fb5a0 }
.rival { fill: #6e7781 }
.direct { fill: #444c56 }
.spread { stroke: #e6edf3 }
}
</style>
";

/// Writes bench-GROUP.svg for each group that has figures.
pub fn draw_all(results: &Results, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("folder of charts: {error}"))?;
    for (name, title, measures) in results.suite.groups() {
        if let Some(chart) = draw(results, title, measures) {
            fs::write(folder.join(format!("bench-{name}.svg")), chart)
                .map_err(|error| format!("write a chart: {error}"))?;
        }
    }
    Ok(())
}

fn draw(results: &Results, title: &str, measures: &[Measure]) -> Option<String> {
    let summary = Summary::new(results);
    let mut top = MARGIN;
    let mut drawn = String::new();
    for &measure in measures {
        for figure in measure.figures().iter().filter(|figure| figure.is_drawn) {
            let columns = results.threads.iter().map(|&threads| {
                let heading =
                    format!("{}, {}", heading(measure, figure), threads_in_words(threads));
                Panel::new(&summary, &results.peers(), threads, measure, figure, heading)
            });
            let panels: Vec<Panel> = columns.collect();
            let rows = panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
            if rows == 0 {
                continue;
            }
            for (column, panel) in panels.iter().enumerate() {
                drawn += &panel.draw(MARGIN + COLUMN * column as f64, top);
            }
            top += TITLE + STEP * rows as f64 + 10.0;
        }
    }
    let width = COLUMN * results.threads.len() as f64 + 2.0 * MARGIN;
    (!drawn.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{top:.0}\" \
             viewBox=\"0 0 {width:.0} {top:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             {STYLE}{drawn}</svg>\n"
        )
    })
}

fn heading(measure: Measure, figure: &Figure) -> String {
    let way = if figure.more_is_better { "more is better" } else { "less is better" };
    if measure == Measure::Connects || measure.is_idle() || measure.is_latency() {
        format!("{}, {way}", figure.title)
    } else {
        format!("{}, {}", measure.title(), figure.title)
    }
}

/// The bars of one figure with one number of threads.
struct Panel {
    heading: String,
    bars: Vec<(Peer, Spread)>,
}

impl Panel {
    fn new(
        summary: &Summary,
        peers: &[Peer],
        threads: usize,
        measure: Measure,
        figure: &Figure,
        heading: String,
    ) -> Panel {
        let bars = peers
            .iter()
            .filter_map(|&peer| Some((peer, summary.spread(threads, measure, figure.key, peer)?)))
            .collect();
        Panel { heading, bars }
    }

    fn draw(&self, left: f64, top: f64) -> String {
        let longest =
            self.bars.iter().map(|(_, spread)| spread.high).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (COLUMN - LABEL - NUMBER - MARGIN) / longest;
        let mut text = format!(
            "<text class=\"title\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>\n",
            top + 16.0,
            self.heading
        );
        for (row, (peer, spread)) in self.bars.iter().enumerate() {
            text += &bar(*peer, *spread, left, top + TITLE - 8.0 + STEP * row as f64, scale);
        }
        text
    }
}

fn bar(peer: Peer, spread: Spread, left: f64, top: f64, scale: f64) -> String {
    let class = match peer {
        Peer::Evenkeel => "ours",
        Peer::Direct => "direct",
        _ => "rival",
    };
    let begin = left + LABEL;
    let at = |value: f64| begin + (value * scale).max(0.0);
    let (base, middle) = (top + 12.5, top + BAR / 2.0);
    let (length, low, high) = (at(spread.median) - begin, at(spread.low), at(spread.high));
    let name = peer.title();
    let number = short(spread.median);
    format!(
        "<text x=\"{left:.1}\" y=\"{base:.1}\">{name}</text>\
         <rect class=\"{class}\" x=\"{begin:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" \
         height=\"{BAR}\" rx=\"2\"/>\
         <line class=\"spread\" x1=\"{low:.1}\" y1=\"{middle:.1}\" x2=\"{high:.1}\" \
         y2=\"{middle:.1}\"/>\
         <text class=\"number\" x=\"{:.1}\" y=\"{base:.1}\">{number}</text>\n",
        high + 6.0
    )
}
