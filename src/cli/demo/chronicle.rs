//! What is worth telling about a running proxy: changes of state, rates, new reasons of ends.
//! It compares readings and does nothing else; the time is an argument, as a [`Duration`] since the start.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{BackendCounts, Counts, Why};

/// Over what time a rate is taken.
const WINDOW: Duration = Duration::from_secs(1);
/// A reason that has not been met for this long is news again.
const QUIET: Duration = Duration::from_secs(5);

/// The state of a backend that the config does not have any more.
pub(super) const REMOVED: &str = "removed";

/// How good a piece of news is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Neutral,
    Uneasy,
    Bad,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// The readings so far, as far as they still matter.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    states: Vec<(&'static str, Duration)>,
    samples: VecDeque<(Duration, Sample)>,
    ends: Vec<(Why, u64, Duration)>,
}

/// Numbers that only grow, at one moment.
#[derive(Debug, Clone)]
struct Sample {
    connections: Vec<u64>,
    requests: Vec<u64>,
    statuses: [u64; 5],
}

/// How fast these numbers grow, a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    /// New connections of each backend.
    pub(super) connections: Vec<f64>,
    /// HTTP requests of each backend.
    pub(super) requests: Vec<f64>,
    /// HTTP requests by the first digit of their status, from 1xx on.
    pub(super) statuses: [f64; 5],
}

impl Chronicle {
    /// Takes in a reading; says what is new. `names` are the backends' names in the same order.
    pub(super) fn note(
        &mut self,
        now: Duration,
        names: &[&str],
        backends: &[BackendCounts],
        counts: &Counts,
    ) -> Vec<Event> {
        let mut news = self.note_ends(now, counts);
        self.states.resize(backends.len(), ("healthy", now));
        for ((known, backend), name) in self.states.iter_mut().zip(backends).zip(names) {
            if known.0 != backend.state {
                let (tone, what) = transition(known.0, backend.state);
                news.push(Event { at: now, tone, text: format!("{name} {what}") });
                *known = (backend.state, now);
            }
        }
        let [_, statuses @ ..] = counts.requests;
        let sample = Sample {
            connections: backends.iter().map(|backend| backend.connections).collect(),
            requests: backends.iter().map(|backend| backend.requests).collect(),
            statuses,
        };
        self.samples.push_back((now, sample));
        while self.samples.len() > 2 && now.saturating_sub(self.samples[1].0) > WINDOW {
            self.samples.pop_front();
        }
        news
    }

    fn note_ends(&mut self, now: Duration, counts: &Counts) -> Vec<Event> {
        let mut news = Vec::new();
        for (why, count) in counts.ended.iter().filter(|(_, count)| *count > 0) {
            let known = self.ends.iter_mut().find(|(known, ..)| known == why);
            let is_news = match known {
                Some((_, before, at)) => {
                    let grown = count > before;
                    let quiet = now.saturating_sub(*at) > QUIET;
                    if grown {
                        (*before, *at) = (*count, now);
                    }
                    grown && quiet
                }
                None => {
                    self.ends.push((*why, *count, now));
                    true
                }
            };
            if is_news && *why != Why::ClientFinished {
                let meaning = why.meaning().split([':', ';']).next().unwrap_or_default();
                let meaning = meaning.trim_end_matches('.');
                let text = format!("connections end by {}: {meaning}", why.as_str());
                news.push(Event { at: now, tone: Tone::Uneasy, text });
            }
        }
        news
    }

    /// How fast everything has grown of late.
    pub(super) fn rates(&self) -> Rates {
        let (Some((from, old)), Some((to, new))) = (self.samples.front(), self.samples.back())
        else {
            return Rates::default();
        };
        let seconds = to.saturating_sub(*from).as_secs_f64().max(0.1);
        let rate = |new: &u64, old: &u64| new.saturating_sub(*old) as f64 / seconds;
        let rates = |new: &[u64], old: &[u64]| {
            new.iter().zip(old).map(|(new, old)| rate(new, old)).collect()
        };
        Rates {
            connections: rates(&new.connections, &old.connections),
            requests: rates(&new.requests, &old.requests),
            statuses: std::array::from_fn(|class| rate(&new.statuses[class], &old.statuses[class])),
        }
    }

    /// The state of a backend in words: what the proxy thinks of it, and since when.
    pub(super) fn state(&self, index: usize, on: bool, now: Duration) -> (Tone, String) {
        let (state, since) = self.states.get(index).copied().unwrap_or(("healthy", now));
        let seconds = now.saturating_sub(since).as_secs();
        match (state, on) {
            ("healthy", true) => (Tone::Good, "healthy".into()),
            ("healthy", false) => (Tone::Uneasy, "stopped, not noticed yet".into()),
            ("ejected", false) => (Tone::Bad, format!("ejected {seconds} s, it failed")),
            ("ejected", true) => (Tone::Uneasy, "ejected a moment more".into()),
            ("unhealthy", false) => (Tone::Bad, format!("down {seconds} s, checks fail")),
            ("unhealthy", true) => (Tone::Uneasy, "started, check is due".into()),
            (other, _) => (Tone::Neutral, other.into()),
        }
    }
}

fn transition(from: &str, to: &str) -> (Tone, &'static str) {
    match (from, to) {
        (_, REMOVED) => (Tone::Neutral, "was taken out of the config"),
        (_, "drained") => (Tone::Neutral, "is drained: an operator said so"),
        (_, "down") => (Tone::Bad, "is down: an operator said so"),
        (REMOVED, _) => (Tone::Good, "is in the config again"),
        ("drained" | "down", "healthy") => (Tone::Good, "is back: an operator said so"),
        (_, "ejected") if from == "healthy" => {
            (Tone::Bad, "is ejected: connecting failed twice in a row")
        }
        (_, "ejected") => (Tone::Uneasy, "passes its checks; its ejection ends soon"),
        ("ejected", "unhealthy") => (Tone::Bad, "is down: it fails its checks, too"),
        (_, "unhealthy") => (Tone::Bad, "is down: it fails its checks"),
        ("unhealthy", "healthy") => (Tone::Good, "is back: it passes its checks"),
        (_, "healthy") => (Tone::Good, "is back: its ejection is over"),
        _ => (Tone::Neutral, "changed its state"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(state: &'static str, connections: u64) -> BackendCounts {
        BackendCounts {
            upstream: "u".into(),
            address: "a".into(),
            weight: 1,
            state,
            said: None,
            open: 0,
            connections,
            failures: 0,
            requests: connections * 2,
        }
    }

    fn counts(ended: &[(Why, u64)]) -> Counts {
        Counts {
            accepted: 0,
            open: 0,
            handed_over: 0,
            taken_over: 0,
            ended: ended.to_vec(),
            requests: [0; 6],
            bytes_up: 0,
            bytes_down: 0,
            access_lines_left_out: 0,
            access_lines_lost: 0,
            diagnostics_lost: 0,
            stalls: 0,
        }
    }

    #[test]
    fn only_changes_are_told() {
        let mut chronicle = Chronicle::default();
        let mut told = Vec::new();
        for (second, state) in
            ["healthy", "healthy", "ejected", "unhealthy", "unhealthy", "healthy"]
                .iter()
                .enumerate()
        {
            let now = Duration::from_secs(second as u64);
            let news = chronicle.note(now, &["blue"], &[reading(state, 0)], &counts(&[]));
            told.extend(news.into_iter().map(|event| event.text));
        }
        assert_eq!(
            told,
            [
                "blue is ejected: connecting failed twice in a row",
                "blue is down: it fails its checks, too",
                "blue is back: it passes its checks"
            ]
        );
    }

    #[test]
    fn a_reason_is_news_once_and_again_after_a_quiet_time() {
        let mut chronicle = Chronicle::default();
        let mut told = Vec::new();
        for (second, count) in [(0, 1), (1, 2), (2, 3), (9, 4)] {
            let ended = [(Why::NoBackend, count), (Why::ClientFinished, 9)];
            told.extend(chronicle.note(Duration::from_secs(second), &[], &[], &counts(&ended)));
        }
        let at: Vec<_> = told.iter().map(|event| event.at.as_secs()).collect();
        assert_eq!(at, [0, 9]);
        assert!(told[0].text.starts_with("connections end by no-backend: "), "{told:?}");
    }

    #[test]
    fn a_rate_is_that_of_the_last_moments() {
        let mut chronicle = Chronicle::default();
        for tenth in 0..100_u32 {
            let now = Duration::from_millis(100) * tenth;
            let connections = u64::from(tenth.min(50)) * 10 + u64::from(tenth.saturating_sub(50));
            chronicle.note(now, &["blue"], &[reading("healthy", connections)], &counts(&[]));
        }
        let rates = chronicle.rates();
        assert!((rates.connections[0] - 10.0).abs() < 0.5, "{rates:?}");
        assert!((rates.requests[0] - 20.0).abs() < 1.0, "{rates:?}");
    }
}
