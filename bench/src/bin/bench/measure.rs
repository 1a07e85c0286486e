//! What is measured: each measure, its figures, units, and which way is better.
//! A flat list of facts; running one is the work of `traffic`.

use serde::{Deserialize, Serialize};

/// One kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    MessagesOne,
    MessagesMany,
    MessagesCrowd,
    BulkUp,
    BulkDown,
    BulkBoth,
    Connects,
    Idle,
    Latency,
}

/// One number a measure yields.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    pub key: &'static str,
    pub title: &'static str,
    pub more_is_better: bool,
}

const fn more(key: &'static str, title: &'static str) -> Figure {
    Figure { key, title, more_is_better: true }
}

const fn less(key: &'static str, title: &'static str) -> Figure {
    Figure { key, title, more_is_better: false }
}

const MESSAGES: &[Figure] = &[more("rate", "messages/s"), less("cpu", "CPU µs per message")];
const BULK: &[Figure] = &[more("rate", "Gbit/s"), less("cpu", "CPU s per GB")];
const CONNECTS: &[Figure] =
    &[more("rate", "new connections/s"), less("cpu", "CPU µs per connection")];
const IDLE: &[Figure] = &[less("memory", "KB per idle connection")];
const LATENCY: &[Figure] =
    &[less("p50", "p50 µs"), less("p99", "p99 µs"), less("p999", "p99.9 µs")];

/// Measures that share a heading and a chart.
pub const GROUPS: [(&str, &str, &[Measure]); 5] = [
    (
        "messages",
        "Messages",
        &[Measure::MessagesOne, Measure::MessagesMany, Measure::MessagesCrowd],
    ),
    ("bulk", "Bulk", &[Measure::BulkUp, Measure::BulkDown, Measure::BulkBoth]),
    ("connects", "New connections", &[Measure::Connects]),
    ("memory", "Memory", &[Measure::Idle]),
    ("latency", "Latency", &[Measure::Latency]),
];

impl Measure {
    pub const ALL: [Measure; 9] = [
        Measure::MessagesOne,
        Measure::MessagesMany,
        Measure::MessagesCrowd,
        Measure::BulkUp,
        Measure::BulkDown,
        Measure::BulkBoth,
        Measure::Connects,
        Measure::Idle,
        Measure::Latency,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Measure::MessagesOne => "messages-1",
            Measure::MessagesMany => "messages-64",
            Measure::MessagesCrowd => "messages-512",
            Measure::BulkUp => "bulk-up",
            Measure::BulkDown => "bulk-down",
            Measure::BulkBoth => "bulk-both",
            Measure::Connects => "connects",
            Measure::Idle => "idle",
            Measure::Latency => "latency",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Measure::MessagesOne => "64 B over 1 connection",
            Measure::MessagesMany => "64 B over 64 connections",
            Measure::MessagesCrowd => "1 KB over 512 connections",
            Measure::BulkUp => "bulk up, 4 connections",
            Measure::BulkDown => "bulk down, 4 connections",
            Measure::BulkBoth => "bulk both ways, 4 connections",
            Measure::Connects => "new connections, 64 at a time",
            Measure::Idle => "5,000 idle connections",
            Measure::Latency => "64 B over 64 connections at a fixed rate",
        }
    }

    pub fn figures(self) -> &'static [Figure] {
        match self {
            Measure::MessagesOne | Measure::MessagesMany | Measure::MessagesCrowd => MESSAGES,
            Measure::BulkUp | Measure::BulkDown | Measure::BulkBoth => BULK,
            Measure::Connects => CONNECTS,
            Measure::Idle => IDLE,
            Measure::Latency => LATENCY,
        }
    }

    /// Measures by name or group, in the usual order; all without a name. Latency needs the rate
    /// of 64 connections, so it brings that along.
    pub fn choose(names: &[String]) -> Result<Vec<Measure>, String> {
        let fits = |measure: &Measure, name: &String| {
            measure.name() == name || measure.name().split('-').next() == Some(name)
        };
        if let Some(name) = names.iter().find(|name| !Measure::ALL.iter().any(|m| fits(m, name))) {
            let known: Vec<&str> = Measure::ALL.iter().map(|measure| measure.name()).collect();
            return Err(format!("no measure is called {name}; there are {}", known.join(", ")));
        }
        let wanted =
            |measure: &Measure| names.is_empty() || names.iter().any(|name| fits(measure, name));
        let latency = wanted(&Measure::Latency);
        let all = Measure::ALL.into_iter();
        Ok(all.filter(|m| wanted(m) || latency && *m == Measure::MessagesMany).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_names_all_its_measures_and_latency_brings_its_rate() {
        let bulk = Measure::choose(&["bulk".to_owned()]).unwrap();
        assert_eq!(bulk, [Measure::BulkUp, Measure::BulkDown, Measure::BulkBoth]);
        let latency = Measure::choose(&["latency".to_owned()]).unwrap();
        assert_eq!(latency, [Measure::MessagesMany, Measure::Latency]);
        assert!(Measure::choose(&["speed".to_owned()]).is_err());
    }
}
