//! Medians, spreads and ratios, worked out from the samples.
//! Pure: it reads results and never changes them.

use crate::measure::{Figure, Measure};
use crate::peer::Peer;
use crate::results::Results;

/// The middle of the rounds, and their extremes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, low, high })
    }
}

/// Questions to the results.
pub struct Summary<'a> {
    results: &'a Results,
}

impl<'a> Summary<'a> {
    pub fn new(results: &'a Results) -> Summary<'a> {
        Summary { results }
    }

    pub fn spread(
        &self,
        threads: usize,
        measure: Measure,
        key: &str,
        peer: Peer,
    ) -> Option<Spread> {
        let samples = self.results.samples.iter().filter(|sample| {
            sample.threads == threads && sample.measure == measure && sample.peer == peer
        });
        Spread::of(samples.filter_map(|sample| sample.values.get(key).copied()).collect())
    }

    /// The best of those that Evenkeel is held against, and its median.
    pub fn best(&self, threads: usize, measure: Measure, figure: &Figure) -> Option<(Peer, f64)> {
        let rivals = self.results.suite.rivals().into_iter();
        let medians = rivals.filter_map(|peer| {
            Some((peer, self.spread(threads, measure, figure.key, peer)?.median))
        });
        let sign = if figure.more_is_better { -1.0 } else { 1.0 };
        medians.min_by(|(_, one), (_, other)| (sign * one).total_cmp(&(sign * other)))
    }

    pub fn direct(&self, threads: usize, measure: Measure, key: &str) -> Option<f64> {
        self.spread(threads, measure, key, Peer::Direct).map(|spread| spread.median)
    }
}

/// Three digits, thousands as k.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 99_950.0 => format!("{:.0}k", value / 1e3),
        _ if size >= 9_995.0 => format!("{:.1}k", value / 1e3),
        _ if size >= 1_000.0 => format!("{:.2}k", value / 1e3),
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, low: 1.0, high: 4.0 });
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn numbers_are_written_with_three_digits() {
        let written: Vec<String> = [0.1234, 3.456, 45.67, 456.7, 4567.0, 45_670.0, 456_700.0]
            .iter()
            .map(|&value| short(value))
            .collect();
        assert_eq!(written, ["0.123", "3.46", "45.7", "457", "4.57k", "45.7k", "457k"]);
    }
}
