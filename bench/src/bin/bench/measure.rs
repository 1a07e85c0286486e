//! What is measured: each measure, its traffic, its figures, units, and which way is better.
//! A flat list of facts; running one is the work of `traffic`.

use serde::{Deserialize, Serialize};

use crate::suite::Suite;

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
    RequestsOne,
    RequestsMany,
    RequestsCrowd,
    RequestsLarge,
    Visits,
    Uploads,
    Streams,
    FilesSmall,
    FilesLarge,
    FilesHuge,
    KeptIdle,
    RequestLatency,
    Handshakes,
    Resumed,
    Secure,
    SecureStreams,
    SecureBulk,
    SecureIdle,
    Crowd,
    SingleSmallOne,
    SingleSmallMany,
    SingleSmallCrowd,
    SingleLargeOne,
    SingleLargeMany,
    SingleLargeCrowd,
    PipelineSmallOne,
    PipelineSmallMany,
    PipelineSmallCrowd,
    PipelineLargeOne,
    PipelineLargeMany,
    PipelineLargeCrowd,
    PacketIdle,
    PacketLatency,
}

/// The listeners of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Door {
    /// Clear text to the backend.
    Clear,
    /// TLS, with HTTP/2, to the backend.
    Tls,
    /// Clear text, files from the disk.
    Files,
}

/// How a measure is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// As much as the proxy carries.
    Steady,
    /// Memory of a freshly started proxy.
    Idle,
    /// At a rate that is known only after the steady ones.
    Latency,
}

/// One number a measure yields.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    pub key: &'static str,
    pub title: &'static str,
    pub more_is_better: bool,
    /// From seconds, bytes and counts to the unit that the title names.
    pub scale: f64,
    /// False for what another figure's chart shows already.
    pub is_drawn: bool,
}

/// Everything known about a measure.
pub struct Facts {
    pub measure: Measure,
    pub name: &'static str,
    pub title: &'static str,
    pub figures: &'static [Figure],
    pub kind: Kind,
    pub door: Door,
    /// What the load generator is told.
    pub load: &'static str,
}

/// Measures that share a heading and a chart: name of the chart, title, measures.
pub type Group = (&'static str, &'static str, &'static [Measure]);

const fn more(key: &'static str, title: &'static str) -> Figure {
    Figure { key, title, more_is_better: true, scale: 1.0, is_drawn: true }
}

const fn less(key: &'static str, title: &'static str) -> Figure {
    Figure { key, title, more_is_better: false, scale: 1.0, is_drawn: true }
}

impl Figure {
    const fn times(self, scale: f64) -> Figure {
        Figure { scale, ..self }
    }

    const fn undrawn(self) -> Figure {
        Figure { is_drawn: false, ..self }
    }
}

const MESSAGES: &[Figure] =
    &[more("rate", "messages/s"), less("cpu", "CPU µs per message").times(1e6)];
const BULK: &[Figure] =
    &[more("rate", "Gbit/s").times(8e-9), less("cpu", "CPU s per GB").times(1e9)];
const CONNECTS: &[Figure] =
    &[more("rate", "new connections/s"), less("cpu", "CPU µs per connection").times(1e6)];
const REQUESTS: &[Figure] = &[
    more("rate", "requests/s"),
    less("cpu", "CPU µs per request").times(1e6).undrawn(),
    more("per-cpu", "requests per CPU-second"),
];
const HANDSHAKES: &[Figure] = &[
    more("rate", "handshakes/s"),
    less("cpu", "CPU µs per handshake").times(1e6).undrawn(),
    more("per-cpu", "handshakes per CPU-second"),
];
/// Of bodies of 10 MB.
const SECURE_BULK: &[Figure] = &[
    more("rate", "Gbit/s").times(8e-9 * 10_485_760.0),
    more("per-cpu", "Gbit per CPU-second").times(8e-9 * 10_485_760.0),
];
/// Both are p99; see the load generator.
const CROWD: &[Figure] = &[
    less("p50", "p99 µs alone").times(1e6),
    less("p99", "p99 µs among them").times(1e6),
    less("rate", "times as long").undrawn(),
];
const SINGLE: &[Figure] = &[
    less("cpu", "CPU µs per packet").times(1e6),
    more("rate", "packets/s"),
    less("p50", "p50 µs").times(1e6).undrawn(),
    less("p99", "p99 µs").times(1e6).undrawn(),
];
const PIPELINE: &[Figure] =
    &[less("cpu", "CPU µs per packet").times(1e6), more("rate", "packets/s")];
const IDLE: &[Figure] = &[less("memory", "KB per idle connection").times(1e-3)];
const LATENCY: &[Figure] = &[
    less("p50", "p50 µs").times(1e6),
    less("p99", "p99 µs").times(1e6),
    less("p999", "p99.9 µs").times(1e6),
];

/// Name, title and load of a measure: as much as possible, at the door in clear text.
const fn facts(
    measure: Measure,
    figures: &'static [Figure],
    [name, title, load]: [&'static str; 3],
) -> Facts {
    Facts { measure, name, title, figures, kind: Kind::Steady, door: Door::Clear, load }
}

impl Facts {
    const fn at(self, door: Door) -> Facts {
        Facts { door, ..self }
    }

    const fn run(self, kind: Kind) -> Facts {
        Facts { kind, ..self }
    }
}

#[rustfmt::skip]
pub const TCP: [Facts; 9] = [
    facts(Measure::MessagesOne, MESSAGES,
        ["messages-1", "64 B over 1 connection", "messages --connections 1"]),
    facts(Measure::MessagesMany, MESSAGES,
        ["messages-64", "64 B over 64 connections", "messages --connections 64"]),
    facts(Measure::MessagesCrowd, MESSAGES,
        ["messages-512", "1 KB over 512 connections", "messages --connections 512 --size 1024"]),
    facts(Measure::BulkUp, BULK,
        ["bulk-up", "bulk up, 4 connections", "bulk --direction up"]),
    facts(Measure::BulkDown, BULK,
        ["bulk-down", "bulk down, 4 connections", "bulk --direction down"]),
    facts(Measure::BulkBoth, BULK,
        ["bulk-both", "bulk both ways, 4 connections", "bulk --direction both"]),
    facts(Measure::Connects, CONNECTS,
        ["connects", "new connections, 64 at a time", "connects --concurrency 64"]),
    facts(Measure::Idle, IDLE,
        ["idle", "5,000 idle connections", "idle"]).run(Kind::Idle),
    facts(Measure::Latency, LATENCY,
        ["latency", "64 B over 64 connections at a fixed rate", "messages --connections 64"])
        .run(Kind::Latency),
];

#[rustfmt::skip]
pub const HTTP: [Facts; 12] = [
    facts(Measure::RequestsOne, REQUESTS,
        ["requests-1", "1 KB over 1 connection", "requests --connections 1 --path /1k"]),
    facts(Measure::RequestsMany, REQUESTS,
        ["requests-64", "1 KB over 64 connections", "requests --connections 64 --path /1k"]),
    facts(Measure::RequestsCrowd, REQUESTS,
        ["requests-400", "1 KB over 400 connections", "requests --connections 400 --path /1k"]),
    facts(Measure::RequestsLarge, REQUESTS,
        ["requests-100k", "100 KB over 64 connections",
         "requests --connections 64 --path /100k --body 102400"]),
    facts(Measure::Visits, REQUESTS,
        ["visits", "1 KB over new connections",
         "connects --concurrency 64 --path /1k"]),
    facts(Measure::Uploads, REQUESTS,
        ["uploads", "1 MB uploads over 16 connections",
         "requests --connections 16 --path /upload --upload 1048576 --body 2"]),
    facts(Measure::Streams, REQUESTS,
        ["streams", "1 KB over 8 × 100 streams",
         "streams --connections 8 --streams 100 --path /1k"]).at(Door::Tls),
    facts(Measure::FilesSmall, REQUESTS,
        ["files-1k", "1 KB file over 64 connections",
         "requests --connections 64 --path /1k"]).at(Door::Files),
    facts(Measure::FilesLarge, REQUESTS,
        ["files-100k", "100 KB file over 64 connections",
         "requests --connections 64 --path /100k --body 102400"]).at(Door::Files),
    facts(Measure::FilesHuge, REQUESTS,
        ["files-10m", "10 MB file over 8 connections",
         "requests --connections 8 --path /10m --body 10485760"]).at(Door::Files),
    facts(Measure::KeptIdle, IDLE,
        ["idle", "5,000 idle keep-alive connections", "idle --path /1k"]).run(Kind::Idle),
    facts(Measure::RequestLatency, LATENCY,
        ["latency", "1 KB over 64 connections at a fixed rate",
         "requests --connections 64 --path /1k"]).run(Kind::Latency),
];

#[rustfmt::skip]
pub const TLS: [Facts; 7] = [
    facts(Measure::Handshakes, HANDSHAKES,
        ["handshakes", "a handshake and 1 KB for each connection",
         "handshakes --concurrency 64 --path /1k"]).at(Door::Tls),
    facts(Measure::Resumed, HANDSHAKES,
        ["resumed", "the same, going on with the last session",
         "handshakes --concurrency 64 --path /1k --resume"]).at(Door::Tls),
    facts(Measure::Secure, REQUESTS,
        ["requests-64", "1 KB over 64 connections", "secure --connections 64 --path /1k"])
        .at(Door::Tls),
    facts(Measure::SecureStreams, REQUESTS,
        ["streams", "1 KB over 8 × 100 streams",
         "streams --connections 8 --streams 100 --path /1k"]).at(Door::Tls),
    facts(Measure::SecureBulk, SECURE_BULK,
        ["bulk", "10 MB bodies over 8 connections",
         "secure --connections 8 --path /10m --body 10485760"]).at(Door::Tls),
    facts(Measure::SecureIdle, IDLE,
        ["idle", "5,000 idle keep-alive connections", "secure-idle --path /1k"])
        .at(Door::Tls).run(Kind::Idle),
    facts(Measure::Crowd, CROWD,
        ["crowd", "1 KB at 2,000 a second, among 1,000 handshakes", "crowd"]),
];

#[rustfmt::skip]
pub const PACKETS: [Facts; 14] = [
    facts(Measure::SingleSmallOne, SINGLE,
        ["single-64-1", "64 B, 1 client, one at a time",
         "messages --size 64 --connections 1 --packets 1"]),
    facts(Measure::SingleSmallMany, SINGLE,
        ["single-64-64", "64 B, 64 clients, one at a time",
         "messages --size 64 --connections 64 --packets 1"]),
    facts(Measure::SingleSmallCrowd, SINGLE,
        ["single-64-512", "64 B, 512 clients, one at a time",
         "messages --size 64 --connections 512 --packets 1"]),
    facts(Measure::SingleLargeOne, SINGLE,
        ["single-4k-1", "4 KB, 1 client, one at a time",
         "messages --size 4096 --connections 1 --packets 1"]),
    facts(Measure::SingleLargeMany, SINGLE,
        ["single-4k-64", "4 KB, 64 clients, one at a time",
         "messages --size 4096 --connections 64 --packets 1"]),
    facts(Measure::SingleLargeCrowd, SINGLE,
        ["single-4k-512", "4 KB, 512 clients, one at a time",
         "messages --size 4096 --connections 512 --packets 1"]),
    facts(Measure::PipelineSmallOne, PIPELINE,
        ["pipeline-64-1", "64 B, 1 client, 32 at a time",
         "messages --size 64 --connections 1 --packets 32"]),
    facts(Measure::PipelineSmallMany, PIPELINE,
        ["pipeline-64-64", "64 B, 64 clients, 32 at a time",
         "messages --size 64 --connections 64 --packets 32"]),
    facts(Measure::PipelineSmallCrowd, PIPELINE,
        ["pipeline-64-512", "64 B, 512 clients, 32 at a time",
         "messages --size 64 --connections 512 --packets 32"]),
    facts(Measure::PipelineLargeOne, PIPELINE,
        ["pipeline-4k-1", "4 KB, 1 client, 32 at a time",
         "messages --size 4096 --connections 1 --packets 32"]),
    facts(Measure::PipelineLargeMany, PIPELINE,
        ["pipeline-4k-64", "4 KB, 64 clients, 32 at a time",
         "messages --size 4096 --connections 64 --packets 32"]),
    facts(Measure::PipelineLargeCrowd, PIPELINE,
        ["pipeline-4k-512", "4 KB, 512 clients, 32 at a time",
         "messages --size 4096 --connections 512 --packets 32"]),
    facts(Measure::PacketIdle, IDLE,
        ["idle", "5,000 idle clients", "idle --packet"]).run(Kind::Idle),
    facts(Measure::PacketLatency, LATENCY,
        ["latency", "64 B, 64 clients, at a fixed rate",
         "messages --size 64 --connections 64 --packets 1"]).run(Kind::Latency),
];

pub const PACKET_GROUPS: [Group; 4] = [
    (
        "packets-single",
        "One packet at a time",
        &[
            Measure::SingleSmallOne,
            Measure::SingleSmallMany,
            Measure::SingleSmallCrowd,
            Measure::SingleLargeOne,
            Measure::SingleLargeMany,
            Measure::SingleLargeCrowd,
        ],
    ),
    (
        "packets-pipeline",
        "32 packets at a time",
        &[
            Measure::PipelineSmallOne,
            Measure::PipelineSmallMany,
            Measure::PipelineSmallCrowd,
            Measure::PipelineLargeOne,
            Measure::PipelineLargeMany,
            Measure::PipelineLargeCrowd,
        ],
    ),
    ("packets-memory", "Memory", &[Measure::PacketIdle]),
    ("packets-latency", "Latency", &[Measure::PacketLatency]),
];

pub const TLS_GROUPS: [Group; 6] = [
    ("tls-handshakes", "Handshakes", &[Measure::Handshakes, Measure::Resumed]),
    ("tls-requests", "HTTP/1.1 requests", &[Measure::Secure]),
    ("tls-streams", "HTTP/2", &[Measure::SecureStreams]),
    ("tls-bulk", "Bulk", &[Measure::SecureBulk]),
    ("tls-memory", "Memory", &[Measure::SecureIdle]),
    ("tls-crowd", "A crowd of handshakes", &[Measure::Crowd]),
];

pub const TCP_GROUPS: [Group; 5] = [
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

pub const HTTP_GROUPS: [Group; 7] = [
    (
        "http-requests",
        "HTTP/1.1 requests",
        &[
            Measure::RequestsOne,
            Measure::RequestsMany,
            Measure::RequestsCrowd,
            Measure::RequestsLarge,
        ],
    ),
    ("http-visits", "A connection for each request", &[Measure::Visits]),
    ("http-uploads", "Uploads", &[Measure::Uploads]),
    ("http-streams", "HTTP/2 over TLS", &[Measure::Streams]),
    ("http-files", "Static files", &[Measure::FilesSmall, Measure::FilesLarge, Measure::FilesHuge]),
    ("http-memory", "Memory", &[Measure::KeptIdle]),
    ("http-latency", "Latency", &[Measure::RequestLatency]),
];

impl Measure {
    pub fn facts(self) -> &'static Facts {
        let mut all = TCP.iter().chain(&HTTP).chain(&TLS).chain(&PACKETS);
        all.find(|facts| facts.measure == self).unwrap_or(&TCP[0])
    }

    pub fn name(self) -> &'static str {
        self.facts().name
    }

    pub fn title(self) -> &'static str {
        self.facts().title
    }

    pub fn figures(self) -> &'static [Figure] {
        self.facts().figures
    }

    pub fn is_idle(self) -> bool {
        self.facts().kind == Kind::Idle
    }

    /// Whether several packets are sent at a time.
    pub fn is_pipelined(self) -> bool {
        self.facts().name.starts_with("pipeline-")
    }

    pub fn is_latency(self) -> bool {
        self.facts().kind == Kind::Latency
    }

    /// Measures by name or group, in the usual order; all without a name. Latency needs the rate
    /// of 64 connections, so it brings that along.
    pub fn choose(suite: Suite, names: &[String]) -> Result<Vec<Measure>, String> {
        let all = suite.measures();
        let fits = |facts: &Facts, name: &String| {
            let rest = facts.name.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if let Some(name) = names.iter().find(|name| !all.iter().any(|facts| fits(facts, name))) {
            let known: Vec<&str> = all.iter().map(|facts| facts.name).collect();
            return Err(format!("no measure is called {name}; there are {}", known.join(", ")));
        }
        let wanted = |facts: &Facts| names.is_empty() || names.iter().any(|name| fits(facts, name));
        let latency = all.iter().any(|facts| facts.kind == Kind::Latency && wanted(facts));
        let chosen =
            all.iter().filter(|facts| wanted(facts) || latency && facts.measure == suite.base());
        Ok(chosen.map(|facts| facts.measure).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_names_all_its_measures_and_latency_brings_its_rate() {
        let choose = |suite, name: &str| Measure::choose(suite, &[name.to_owned()]);
        let bulk = choose(Suite::Tcp, "bulk").unwrap();
        assert_eq!(bulk, [Measure::BulkUp, Measure::BulkDown, Measure::BulkBoth]);
        let latency = choose(Suite::Tcp, "latency").unwrap();
        assert_eq!(latency, [Measure::MessagesMany, Measure::Latency]);
        let latency = choose(Suite::Http, "latency").unwrap();
        assert_eq!(latency, [Measure::RequestsMany, Measure::RequestLatency]);
        let small = choose(Suite::Packets, "pipeline-64").unwrap();
        assert_eq!(small.first(), Some(&Measure::PipelineSmallOne));
        assert_eq!(small.len(), 3);
        assert!(choose(Suite::Tcp, "speed").is_err());
        assert!(choose(Suite::Tcp, "bul").is_err());
        assert!(choose(Suite::Tcp, "files").is_err());
    }

    #[test]
    fn every_measure_of_a_suite_stands_in_one_of_its_groups() {
        for suite in [Suite::Tcp, Suite::Http, Suite::Tls, Suite::Packets] {
            for facts in suite.measures() {
                let groups = suite.groups().iter();
                let holding = groups.filter(|(_, _, group)| group.contains(&facts.measure));
                assert_eq!(holding.count(), 1, "{}", facts.name);
                assert_eq!(facts.measure.facts().name, facts.name);
            }
        }
    }
}
