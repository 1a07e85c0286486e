//! `evenkeel status`: what the running process is doing, as two tables: listeners, and backends with what an operator has said
//! of them. It only looks.

use super::ask::Reach;
use super::{exit, say};
use crate::admin::message::Status;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn status(arguments: &Arguments) -> u8 {
    match arguments.reach.see::<Status>("/v1/status") {
        Ok(answer) if arguments.reach.json => say(&answer.text),
        Ok(answer) => say(&drawn(&answer.value)),
        Err(failure) => return failure.say(arguments.reach.json),
    }
    exit::FINE
}

fn drawn(status: &Status) -> String {
    let Status { version, pid, open, accepted, .. } = status;
    let up = spoken(status.uptime_ms);
    let mut lines = vec![format!(
        "evenkeel {version}, process {pid}, up {up}; {open} open connections, {accepted} so far"
    )];
    if status.draining {
        lines.push("it is draining, and stops then".to_owned());
    }
    if let Some(left) = status.confirm_within_ms {
        let left = spoken(left);
        lines.push(format!(
            "its config waits to be confirmed: it goes back in {left}, unless `evenkeel confirm` comes"
        ));
    }
    let listeners = status.listeners.iter().map(|listener| {
        vec![listener.name.clone(), listener.addresses.join(", "), listener.open.to_string()]
    });
    lines.push(String::new());
    lines.extend(table(&["LISTENER", "ADDRESS", "OPEN"], listeners.collect()));
    let backends = status.backends.iter().map(|backend| {
        vec![
            format!("{}/{}", backend.upstream, backend.backend),
            backend.state.clone(),
            backend.operator.clone().unwrap_or_else(|| "-".to_owned()),
            backend.weight.to_string(),
            backend.open.to_string(),
            backend.connections.to_string(),
            backend.failures.to_string(),
            backend.requests.to_string(),
        ]
    });
    let titles =
        ["BACKEND", "STATE", "OPERATOR", "WEIGHT", "OPEN", "CONNECTIONS", "FAILURES", "REQUESTS"];
    lines.push(String::new());
    lines.extend(table(&titles, backends.collect()));
    lines.join("\n")
}

/// Columns as wide as what is in them.
pub(super) fn table(titles: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let titles: Vec<_> = titles.iter().map(|title| (*title).to_owned()).collect();
    let all: Vec<_> = std::iter::once(titles).chain(rows).collect();
    let columns = all[0].len();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A time in its two largest units.
pub(super) fn spoken(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes}m"),
        (days, hours, ..) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_two_largest_units() {
        let said = [5, 65, 3_700, 90_000].map(|seconds| spoken(seconds * 1000));
        assert_eq!(said, ["5s", "1m5s", "1h1m", "1d1h"]);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows =
            vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["X", "N"], rows), ["X     N", "a     1", "long  2"]);
    }
}
