//! Tables of the results, as text for a terminal and as Markdown for the page.
//! One table model, two ways to write it down.

use crate::goals;
use crate::measure::Measure;
use crate::peer::Peer;
use crate::results::Results;
use crate::summary::{Summary, short};

/// With more of the processors used by other programs, a run says little.
const MOST_USED_BY_OTHERS: f64 = 0.05;

/// A heading row and rows of the same length.
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Table {
        Table { header: header.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Columns padded to their widest cell, the first one to the left.
    pub fn as_text(&self) -> String {
        let width = |column: usize| {
            let cells =
                self.rows.iter().chain([&self.header]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for row in [&self.header].into_iter().chain(&self.rows) {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => text += &format!("  {cell:<width$}"),
                    _ => text += &format!("  {cell:>width$}"),
                }
            }
            text.push('\n');
        }
        text
    }

    pub fn as_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut rule: Vec<String> = vec!["---:".to_owned(); self.header.len()];
        rule[0] = "---".to_owned();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{}{rows}", line(&self.header), line(&rule))
    }
}

/// Everything, for a terminal.
pub fn for_terminal(results: &Results) -> String {
    let mut text = String::new();
    for &threads in &results.threads {
        for (_, _, measures) in results.suite.groups() {
            for &measure in *measures {
                if let Some(table) = detail(results, threads, measure) {
                    let threads = threads_in_words(threads);
                    text += &format!("\n{}, {threads}\n{}", measure.title(), table.as_text());
                }
            }
        }
    }
    text += &format!("\nAsked and reached\n{}", reached(results).as_text());
    text += &format!(
        "\nOther programs used {:.0} % of the processor time, {:.0} % was stolen by the host.\n",
        results.machine.used_by_others * 100.0,
        results.machine.stolen * 100.0
    );
    if results.machine.used_by_others > MOST_USED_BY_OTHERS {
        text +=
            "That is too much for these figures to be relied on: run again on a quiet machine.\n";
    }
    for peer in &results.absent {
        text += &format!("\nabsent: {} ({})\n", peer.title(), peer.how_to_install());
    }
    for failure in &results.failures {
        text += &format!("\nfailed: {failure}\n");
    }
    text
}

pub fn threads_in_words(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// Each peer with median, spread and ratios, for each figure of a measure.
pub fn detail(results: &Results, threads: usize, measure: Measure) -> Option<Table> {
    let summary = Summary::new(results);
    let to_rival = format!("to {}", results.suite.words().rival);
    let mut table = Table::new(&["", "median", "min..max", &to_rival, "to direct"]);
    for figure in measure.figures() {
        let best = summary.best(threads, measure, figure).map(|(_, median)| median);
        let direct = summary.direct(threads, measure, figure.key);
        for peer in results.peers() {
            let Some(spread) = summary.spread(threads, measure, figure.key, peer) else { continue };
            let ratio = |to: Option<f64>| {
                to.map_or("-".to_owned(), |to| format!("{:.2}", spread.median / to))
            };
            table.rows.push(vec![
                format!("{}, {}", figure.title, peer.title()),
                short(spread.median),
                format!("{}..{}", short(spread.low), short(spread.high)),
                ratio(best),
                ratio(direct),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// A row for each figure of a group, a column for each peer: median and ratio to the best peer.
pub fn overview(results: &Results, threads: usize, measures: &[Measure]) -> Option<Table> {
    let summary = Summary::new(results);
    let peers = results.peers();
    let mut header = vec![threads_in_words(threads)];
    header.extend(peers.iter().map(|peer| peer.title().to_owned()));
    let mut rows = Vec::new();
    for &measure in measures {
        for figure in measure.figures() {
            let best = summary.best(threads, measure, figure);
            let cell = |&peer: &Peer| {
                let Some(spread) = summary.spread(threads, measure, figure.key, peer) else {
                    return "-".to_owned();
                };
                let median = short(spread.median);
                match best {
                    Some((first, _)) if first == peer => format!("**{median}**"),
                    Some((_, best)) => format!("{median} ({:.2})", spread.median / best),
                    None => median,
                }
            };
            let cells: Vec<String> = peers.iter().map(cell).collect();
            if cells.iter().any(|cell| cell != "-") {
                let title = format!("{}: {}", measure.title(), figure.title);
                rows.push([vec![title], cells].concat());
            }
        }
    }
    (!rows.is_empty()).then_some(Table { header, rows })
}

/// Every figure asked for, and what came of it.
pub fn reached(results: &Results) -> Table {
    let mut table = Table::new(&["", "threads", "asked", "reached", "verdict"]);
    for outcome in goals::outcomes(results) {
        let [name, asked, reached, verdict] = outcome.words();
        table.rows.push(vec![name, outcome.threads.to_string(), asked, reached, verdict]);
    }
    table
}
