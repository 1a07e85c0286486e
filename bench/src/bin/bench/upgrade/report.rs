//! The figures of all rounds as tables: what was asked and reached, Evenkeel with and without upgrades, and what becomes of the
//! same connections elsewhere. Each is the median of its rounds, but counts of what must not happen, which are sums.

use super::Results;
use super::proxy::{Held, Upgrade};
use super::run::{Pace, Sample};
use crate::peer::Peer;
use crate::summary::Spread;
use crate::tables::Table;

/// Milliseconds that an upgrade may add to the longest gap, at p99.
const GAP_MAX: f64 = 250.0;

pub fn pace_in_words(pace: Pace, rate: f64) -> String {
    match pace {
        Pace::Full => "at full speed".to_owned(),
        Pace::Rate => format!("at {rate:.0} KB/s"),
    }
}

/// One run, as it goes by.
pub fn in_a_line(sample: &Sample) -> String {
    let done = sample.upgrades.iter().filter(|upgrade| upgrade.failure.is_none());
    let took: Vec<String> = done.map(|upgrade| format!("{:.0}", upgrade.done * 1e3)).collect();
    let mut text = format!(
        "gap p50 {:.0} p99 {:.0} max {:.0} ms, {:.0} MB/s, {} newcomers, {} processes",
        sample.p50,
        sample.p99,
        sample.max,
        sample.rate / 1e6,
        sample.newcomers,
        sample.after.len(),
    );
    if !took.is_empty() {
        text += &format!(", upgrades took {} ms", took.join(" "));
    }
    let wrong = [
        ("closed", sample.closed),
        ("wrong reads", sample.wrong),
        ("bytes lost", sample.lost),
        ("unanswered", sample.unanswered),
        ("newcomers failed", sample.newcomers_failed as u64),
    ];
    for (name, count) in wrong.into_iter().filter(|(_, count)| *count > 0) {
        text += &format!(", {name}: {count}");
    }
    for upgrade in &sample.upgrades {
        if let Some(why) = &upgrade.failure {
            text += &format!(", upgrade failed: {why}");
        }
    }
    if let Some(note) = sample.notes.first() {
        text += &format!(", {note}");
    }
    text
}

/// Questions to the samples.
struct Of<'a> {
    samples: Vec<&'a Sample>,
}

impl<'a> Of<'a> {
    fn new(results: &'a Results, peer: Peer, pace: Pace, with_upgrades: bool) -> Of<'a> {
        let is_meant = |sample: &&Sample| {
            (sample.peer, sample.pace, sample.with_upgrades) == (peer, pace, with_upgrades)
        };
        Of { samples: results.samples.iter().filter(is_meant).collect() }
    }

    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(|sample| figure(sample)).collect())
    }

    fn upgrades(&self) -> impl Iterator<Item = &'a Upgrade> {
        self.samples.iter().flat_map(|sample| &sample.upgrades)
    }

    fn done(&self, figure: impl Fn(&Upgrade) -> f64) -> Option<Spread> {
        let done = self.upgrades().filter(|upgrade| upgrade.failure.is_none());
        Spread::of(done.map(figure).collect())
    }

    fn sum(&self, figure: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(|sample| figure(sample)).sum()
    }
}

/// The median, and the extremes where they differ.
fn cell(spread: Option<Spread>, digits: usize) -> String {
    let Some(Spread { median, low, high }) = spread else { return "-".to_owned() };
    let (low, high) = (format!("{low:.digits$}"), format!("{high:.digits$}"));
    if low == high {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({low}..{high})")
    }
}

fn memory(held: &[Held]) -> f64 {
    held.iter().map(|held| held.memory).sum::<f64>() / 1e6
}

/// The round's p99 with upgrades less that of the same round without, for every round that has both.
pub fn added(results: &Results, pace: Pace) -> Option<Spread> {
    let with = Of::new(results, Peer::Evenkeel, pace, true);
    let without = Of::new(results, Peer::Evenkeel, pace, false);
    let pairs = with.samples.iter().filter_map(|sample| {
        let equal = without.samples.iter().find(|other| other.round == sample.round)?;
        Some(sample.p99 - equal.p99)
    });
    Spread::of(pairs.collect())
}

/// What is asked for, and what came of it.
pub fn reached(results: &Results) -> Table {
    let mut table = Table::new(&["", "asked", "reached", "verdict"]);
    let verdict = |is_met: bool| if is_met { "PASS" } else { "MISS" }.to_owned();
    for pace in [Pace::Full, Pace::Rate] {
        let words = pace_in_words(pace, results.rate);
        let with = Of::new(results, Peer::Evenkeel, pace, true);
        if with.samples.is_empty() {
            continue;
        }
        let added = added(results, pace);
        table.rows.push(vec![
            format!("{words}: longest gap at p99, less that without an upgrade, ms"),
            format!("< {GAP_MAX:.0}"),
            cell(added, 0),
            verdict(added.is_some_and(|added| added.median < GAP_MAX)),
        ]);
        let failed = with.upgrades().filter(|upgrade| upgrade.failure.is_some()).count() as u64;
        let counts = [
            ("upgrades that failed", failed, with.upgrades().count() as u64),
            ("connections closed", with.sum(|sample| sample.closed), connections(results, &with)),
            ("reads with a byte out of place", with.sum(|sample| sample.wrong), 0),
            ("bytes lost", with.sum(|sample| sample.lost + sample.unanswered), 0),
            (
                "new connections that failed",
                with.sum(|sample| sample.newcomers_failed as u64),
                with.sum(|sample| sample.newcomers + sample.newcomers_failed as u64),
            ),
        ];
        for (name, count, all) in counts {
            let of = if all > 0 { format!(" of {all}") } else { String::new() };
            table.rows.push(vec![
                format!("{words}: {name}"),
                "0".to_owned(),
                format!("{count}{of}"),
                verdict(count == 0),
            ]);
        }
    }
    table
}

fn connections(results: &Results, of: &Of<'_>) -> u64 {
    of.samples.len() as u64 * u64::from(results.transfers + results.idle)
}

/// Evenkeel, with upgrades and without.
pub fn evenkeel(results: &Results) -> Table {
    let columns =
        [(Pace::Full, false), (Pace::Full, true), (Pace::Rate, false), (Pace::Rate, true)];
    let of = columns.map(|(pace, with)| Of::new(results, Peer::Evenkeel, pace, with));
    let mut table = Table::new(&[""]);
    table.header.extend(columns.iter().map(|(pace, with)| {
        let with = if *with { "with upgrades" } else { "without" };
        format!("{}, {with}", pace_in_words(*pace, results.rate))
    }));
    type Row = (&'static str, fn(&Of<'_>) -> String);
    let rows: [Row; 14] = [
        ("longest gap of a receiver, p50 ms", |of| cell(of.spread(|sample| sample.p50), 0)),
        ("longest gap of a receiver, p99 ms", |of| cell(of.spread(|sample| sample.p99), 0)),
        ("longest gap of a receiver, max ms", |of| cell(of.spread(|sample| sample.max), 0)),
        ("longest answer to an idle connection, ms", |of| {
            cell(of.spread(|sample| sample.answer), 0)
        }),
        ("longest new connection, ms", |of| cell(of.spread(|sample| sample.newcomer_longest), 0)),
        ("new connections served", |of| of.sum(|sample| sample.newcomers).to_string()),
        ("MB/s, both ways together", |of| cell(of.spread(|sample| sample.rate / 1e6), 0)),
        ("new process ready after, ms", |of| cell(of.done(|upgrade| upgrade.ready * 1e3), 0)),
        ("handed over after, ms", |of| cell(of.done(|upgrade| upgrade.done * 1e3), 0)),
        ("connections handed over", |of| {
            cell(of.done(|upgrade| upgrade.handed.unwrap_or(0) as f64), 0)
        }),
        ("connections left to end or follow", |of| {
            cell(of.done(|upgrade| upgrade.left.unwrap_or(0) as f64), 0)
        }),
        ("processes at the end", |of| cell(of.spread(|sample| sample.after.len() as f64), 0)),
        ("memory before and after, MB", |of| {
            let before = cell(of.spread(|sample| memory(&sample.before)), 1);
            format!("{before} → {}", cell(of.spread(|sample| memory(&sample.after)), 1))
        }),
        ("descriptors before and after", |of| {
            let before = cell(of.spread(|sample| descriptors(&sample.before)), 0);
            format!("{before} → {}", cell(of.spread(|sample| descriptors(&sample.after)), 0))
        }),
    ];
    for (name, figure) in rows {
        let cells = of.iter().map(|of| match of.samples.is_empty() {
            true => "-".to_owned(),
            false => figure(of),
        });
        table.rows.push([name.to_owned()].into_iter().chain(cells).collect());
    }
    table
}

fn descriptors(held: &[Held]) -> f64 {
    held.iter().map(|held| held.descriptors).sum::<usize>() as f64
}

/// The same connections through every proxy, at the rate.
pub fn side_by_side(results: &Results) -> Table {
    let of: Vec<_> = results
        .peers
        .iter()
        .map(|(peer, _)| (*peer, Of::new(results, *peer, Pace::Rate, true)))
        .filter(|(_, of)| !of.samples.is_empty())
        .collect();
    let mut table = Table::new(&[""]);
    table.header.extend(of.iter().map(|(peer, _)| peer.title().to_owned()));
    type Row = (&'static str, fn(&Of<'_>) -> String);
    let rows: [Row; 10] = [
        ("upgrades that took place", |of| {
            let done = of.upgrades().filter(|upgrade| upgrade.failure.is_none()).count();
            format!("{done} of {}", of.upgrades().count())
        }),
        ("established connections closed", |of| of.sum(|sample| sample.closed).to_string()),
        ("connections in the newest process at the end", |of| {
            cell(of.spread(|sample| established(sample, true)), 0)
        }),
        ("connections in processes from before", |of| {
            cell(of.spread(|sample| established(sample, false)), 0)
        }),
        ("seconds after the first upgrade", |of| cell(of.spread(|sample| sample.since_first), 0)),
        ("processes before and after", |of| {
            let before = cell(of.spread(|sample| sample.before.len() as f64), 0);
            format!("{before} → {}", cell(of.spread(|sample| sample.after.len() as f64), 0))
        }),
        ("memory before and after, MB", |of| {
            let before = cell(of.spread(|sample| memory(&sample.before)), 1);
            format!("{before} → {}", cell(of.spread(|sample| memory(&sample.after)), 1))
        }),
        ("longest gap of a receiver, p99 ms", |of| cell(of.spread(|sample| sample.p99), 0)),
        ("longest gap of a receiver, max ms", |of| cell(of.spread(|sample| sample.max), 0)),
        ("new connections that failed", |of| {
            let failed = of.sum(|sample| sample.newcomers_failed as u64);
            format!("{failed} of {}", failed + of.sum(|sample| sample.newcomers))
        }),
    ];
    for (name, figure) in rows {
        let cells = of.iter().map(|(_, of)| figure(of));
        table.rows.push([name.to_owned()].into_iter().chain(cells).collect());
    }
    table
}

/// Connections in the newest process, which its number tells, or in all that were there before it.
fn established(sample: &Sample, in_newest: bool) -> f64 {
    let newest = sample.after.iter().map(|held| held.number).max();
    let meant = sample.after.iter().filter(|held| (Some(held.number) == newest) == in_newest);
    meant.map(|held| held.connections).sum::<usize>() as f64
}

/// Everything, for a terminal.
pub fn for_terminal(results: &Results) -> String {
    let mut text = format!("\nAsked and reached\n{}", reached(results).as_text());
    text += &format!("\nEvenkeel\n{}", evenkeel(results).as_text());
    text += &format!("\nSide by side\n{}", side_by_side(results).as_text());
    text += &format!(
        "\nOther programs used {:.0} % of the processor time, {:.0} % was stolen by the host.\n",
        results.machine.used_by_others * 100.0,
        results.machine.stolen * 100.0
    );
    for failure in &results.failures {
        text += &format!("\nfailed: {failure}\n");
    }
    text
}
