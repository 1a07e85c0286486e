//! The figures Evenkeel has to reach, and whether a run reached them.
//! To reach and wished for come from the issue that asked for this benchmark.

use crate::measure::{Figure, Measure};
use crate::peer::Peer;
use crate::results::Results;
use crate::summary::Summary;

/// What a figure is held against.
#[derive(Clone, Copy, PartialEq)]
pub enum Against {
    BestPeer,
    /// One that the issue names.
    The(Peer),
    /// The relay in another measure: what one packet costs it that comes alone.
    Single(Measure),
    /// A proxied message passes the kernel twice.
    HalfOfDirect,
    Nothing,
}

/// One figure asked for; a ratio, or a plain number if held against nothing.
pub struct Goal {
    pub measure: Measure,
    pub key: &'static str,
    pub against: Against,
    pub reach: f64,
    pub wish: Option<f64>,
    /// Not asked for, only wished.
    pub is_wish: bool,
}

const fn goal(
    measure: Measure,
    key: &'static str,
    against: Against,
    reach: f64,
    wish: Option<f64>,
) -> Goal {
    Goal { measure, key, against, reach, wish, is_wish: false }
}

impl Goal {
    const fn only_wished(self) -> Goal {
        Goal { is_wish: true, ..self }
    }
}

pub const TCP: [Goal; 11] = [
    goal(Measure::MessagesOne, "cpu", Against::BestPeer, 0.95, Some(0.85)),
    goal(Measure::MessagesMany, "cpu", Against::BestPeer, 0.95, Some(0.85)),
    goal(Measure::MessagesCrowd, "cpu", Against::BestPeer, 0.95, Some(0.85)),
    goal(Measure::MessagesMany, "rate", Against::HalfOfDirect, 0.82, Some(0.90)),
    goal(Measure::MessagesCrowd, "rate", Against::HalfOfDirect, 0.82, Some(0.90)),
    goal(Measure::BulkUp, "cpu", Against::BestPeer, 0.9, Some(0.75)),
    goal(Measure::BulkDown, "cpu", Against::BestPeer, 0.9, Some(0.75)),
    goal(Measure::BulkBoth, "cpu", Against::BestPeer, 0.9, Some(0.75)),
    goal(Measure::Connects, "rate", Against::BestPeer, 1.1, Some(1.25)),
    goal(Measure::Idle, "memory", Against::Nothing, 2.5, None),
    goal(Measure::Latency, "p99", Against::BestPeer, 1.05, None),
];

pub const HTTP: [Goal; 11] = [
    goal(Measure::RequestsOne, "per-cpu", Against::BestPeer, 1.1, Some(1.2)),
    goal(Measure::RequestsMany, "per-cpu", Against::BestPeer, 1.1, Some(1.2)),
    goal(Measure::RequestsCrowd, "per-cpu", Against::BestPeer, 1.1, Some(1.2)),
    goal(Measure::RequestsLarge, "per-cpu", Against::BestPeer, 1.0, Some(1.2)),
    goal(Measure::Streams, "per-cpu", Against::The(Peer::Haproxy), 1.0, None),
    goal(Measure::Streams, "per-cpu", Against::The(Peer::Nginx), 1.0, None).only_wished(),
    goal(Measure::FilesSmall, "per-cpu", Against::The(Peer::Nginx), 1.0, None),
    goal(Measure::FilesLarge, "per-cpu", Against::The(Peer::Nginx), 1.0, None),
    goal(Measure::FilesHuge, "per-cpu", Against::The(Peer::Nginx), 1.0, None),
    goal(Measure::RequestLatency, "p99", Against::BestPeer, 1.05, None),
    goal(Measure::KeptIdle, "memory", Against::Nothing, 4.0, None),
];

pub const TLS: [Goal; 8] = [
    goal(Measure::Handshakes, "per-cpu", Against::BestPeer, 1.1, None),
    goal(Measure::Resumed, "per-cpu", Against::BestPeer, 1.1, None),
    goal(Measure::Secure, "per-cpu", Against::BestPeer, 1.1, Some(1.2)),
    goal(Measure::SecureStreams, "per-cpu", Against::BestPeer, 1.1, Some(1.2)),
    goal(Measure::SecureBulk, "per-cpu", Against::BestPeer, 1.0, None),
    goal(Measure::SecureIdle, "memory", Against::Nothing, 12.0, None),
    goal(Measure::SecureIdle, "memory", Against::The(Peer::Nginx), 0.5, None),
    goal(Measure::Crowd, "rate", Against::Nothing, 2.0, None),
];

/// By packet at most a quarter more than the relay; many packets at a time cost less each than one
/// alone through the relay.
pub const PACKETS: [Goal; 13] = [
    goal(Measure::SingleSmallOne, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::SingleSmallMany, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::SingleSmallCrowd, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::SingleLargeOne, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::SingleLargeMany, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::SingleLargeCrowd, "cpu", Against::The(Peer::Relay), 1.25, None),
    goal(Measure::PipelineSmallOne, "cpu", Against::Single(Measure::SingleSmallOne), 1.0, None),
    goal(Measure::PipelineSmallMany, "cpu", Against::Single(Measure::SingleSmallMany), 1.0, None),
    goal(Measure::PipelineSmallCrowd, "cpu", Against::Single(Measure::SingleSmallCrowd), 1.0, None),
    goal(Measure::PipelineLargeOne, "cpu", Against::Single(Measure::SingleLargeOne), 1.0, None),
    goal(Measure::PipelineLargeMany, "cpu", Against::Single(Measure::SingleLargeMany), 1.0, None),
    goal(Measure::PipelineLargeCrowd, "cpu", Against::Single(Measure::SingleLargeCrowd), 1.0, None),
    goal(Measure::PacketIdle, "memory", Against::Nothing, 3.0, None),
];

/// How one goal went.
pub struct Outcome {
    pub goal: &'static Goal,
    pub threads: usize,
    /// `None` when a figure it needs was not measured.
    pub reached: Option<f64>,
    /// Who the best peer was.
    pub best: Option<Peer>,
}

impl Goal {
    pub fn figure(&self) -> &'static Figure {
        let figures = self.measure.figures();
        figures.iter().find(|figure| figure.key == self.key).unwrap_or(&figures[0])
    }

    fn is_met(&self, reached: f64, bound: f64) -> bool {
        match self.against {
            Against::Single(_) => reached < bound,
            _ if self.figure().more_is_better => reached >= bound,
            _ => reached <= bound,
        }
    }
}

impl Outcome {
    pub fn verdict(&self) -> &'static str {
        match (self.reached, self.goal.wish) {
            (None, _) => "not measured",
            (Some(reached), Some(wish)) if self.goal.is_met(reached, wish) => "PASS, as wished",
            (Some(reached), _) => {
                match (self.goal.is_met(reached, self.goal.reach), self.goal.is_wish) {
                    (true, true) => "as wished",
                    (false, true) => "not as wished",
                    (true, false) => "PASS",
                    (false, false) => "MISS",
                }
            }
        }
    }

    /// Name, asked, reached, verdict, as written in every table.
    pub fn words(&self) -> [String; 4] {
        let sign = match self.goal.against {
            Against::Single(_) => "<",
            _ if self.goal.figure().more_is_better => "≥",
            _ => "≤",
        };
        let wish = self.goal.wish.map_or(String::new(), |wish| format!(" (wished {wish:.2})"));
        let wished = if self.goal.is_wish { "wished " } else { "" };
        let against = match (self.goal.against, self.best) {
            (Against::BestPeer, Some(best)) => format!(" of {}", best.title()),
            (Against::The(peer), _) => format!(" of {}", peer.title()),
            (Against::BestPeer, None) => " of the best peer".to_owned(),
            (Against::Single(_), _) => " of relay, one at a time".to_owned(),
            (Against::HalfOfDirect, _) => " of half of direct".to_owned(),
            (Against::Nothing, _) => String::new(),
        };
        [
            format!("{}: {}", self.goal.measure.title(), self.goal.figure().title),
            format!("{wished}{sign} {:.2}{wish}", self.goal.reach),
            self.reached.map_or("-".to_owned(), |reached| format!("{reached:.2}{against}")),
            self.verdict().to_owned(),
        ]
    }
}

/// Every goal of every number of threads whose measure was part of the run.
pub fn outcomes(results: &Results) -> Vec<Outcome> {
    let summary = Summary::new(results);
    let mut outcomes = Vec::new();
    for &threads in &results.threads {
        for goal in results.suite.goals() {
            if !results.samples.iter().any(|sample| sample.measure == goal.measure) {
                continue;
            }
            let ours = summary.spread(threads, goal.measure, goal.key, Peer::Evenkeel);
            let best = summary.best(threads, goal.measure, goal.figure());
            let bound = match goal.against {
                Against::BestPeer => best.map(|(_, median)| median),
                Against::The(peer) => summary
                    .spread(threads, goal.measure, goal.key, peer)
                    .map(|spread| spread.median),
                Against::Single(measure) => summary
                    .spread(threads, measure, goal.key, Peer::Relay)
                    .map(|spread| spread.median),
                Against::HalfOfDirect => {
                    summary.direct(threads, goal.measure, goal.key).map(|direct| direct / 2.0)
                }
                Against::Nothing => Some(1.0),
            };
            let reached = ours.zip(bound).map(|(ours, bound)| ours.median / bound);
            outcomes.push(Outcome { goal, threads, reached, best: best.map(|(peer, _)| peer) });
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_better_for_time_and_more_for_rates() {
        let cpu = |reached| Outcome { goal: &TCP[0], threads: 1, reached, best: None }.verdict();
        assert_eq!(cpu(Some(0.84)), "PASS, as wished");
        assert_eq!(cpu(Some(0.95)), "PASS");
        assert_eq!(cpu(Some(0.96)), "MISS");
        assert_eq!(cpu(None), "not measured");
        let rate = |reached| Outcome { goal: &TCP[3], threads: 1, reached, best: None }.verdict();
        assert_eq!(rate(Some(0.81)), "MISS");
        assert_eq!(rate(Some(0.83)), "PASS");
        let wish = |reached| Outcome { goal: &HTTP[5], threads: 1, reached, best: None }.verdict();
        assert_eq!(wish(Some(0.99)), "not as wished");
        assert_eq!(wish(Some(1.0)), "as wished");
    }
}
