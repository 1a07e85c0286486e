//! `GET /metrics`: everything that is counted, for scrapers. Its labels are names from the config, addresses of backends and words
//! of closed lists, so that no client can make it longer.

mod of_backends;
mod of_listeners;
mod of_process;

use crate::observe::exposition::{Dialect, Exposition, Family, Kind};
use crate::process::Reading;

/// A metric, and who writes its samples.
struct Metric {
    family: Family,
    write: fn(&Reading, &mut Exposition),
}

const fn metric(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    write: fn(&Reading, &mut Exposition),
) -> Metric {
    Metric { family: Family { name, kind, help }, write }
}

/// Every one there is.
fn all() -> impl Iterator<Item = &'static Metric> {
    of_process::METRICS.iter().chain(of_listeners::METRICS).chain(of_backends::METRICS)
}

/// The text of a reading.
pub(super) fn text(reading: &Reading, dialect: Dialect) -> String {
    let mut text = Exposition::new(dialect);
    for metric in all() {
        text.begin(metric.family);
        (metric.write)(reading, &mut text);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_stands_in_the_docs_as_it_is() {
        let page = include_str!("../../../docs/watching.md");
        for Metric { family: Family { name, kind, help }, .. } in all() {
            let row = format!("| `{name}` | {} |", kind.as_str());
            let row = page.lines().find(|line| line.starts_with(&row));
            let row = row.unwrap_or_else(|| panic!("docs/watching.md has no row for {name}"));
            assert!(row.ends_with(&format!("| {help} |")), "{name}: {help}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `evenkeel_")).count();
        assert_eq!(rows, all().count(), "docs/watching.md has metrics that do not exist");
    }

    #[test]
    fn names_are_as_the_conventions_want_them() {
        for Metric { family: Family { name, kind, help }, .. } in all() {
            assert!(name.starts_with("evenkeel_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(
                name.ends_with("_duration_seconds") || name.ends_with("_delay_seconds"),
                *kind == Kind::Histogram,
                "{name}"
            );
            assert!(help.ends_with('.') && !help.contains(['"', '\\', '\n']), "{name}: {help}");
        }
        let mut names: Vec<_> = all().map(|metric| metric.family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }
}
