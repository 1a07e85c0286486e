//! Decides for every connection that did not go as it should whether that was the proxy's doing.
//! The proxy's own record says on which backend it was; only the killing of that one excuses it.

use crate::access::{AccessLog, Line, Millis};
use crate::wire::{Fault, Suspect};

/// How long the proxy may take to write down an end.
const RECORD_DUE: Millis = 20_000;
/// Clocks are read a moment before and after what they time.
const SLACK: Millis = 200;
const TOLD: usize = 20;

/// A backend and when it died: from just before the signal to just after it was gone.
#[derive(Clone, Debug)]
pub struct Kill {
    pub backend: String,
    pub from: Millis,
    pub to: Millis,
}

/// What became of connections that did not go as they should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Bytes came that were never sent, or not in this order.
    Wrong,
    /// No backend for it, although one was healthy; or the proxy did not even take it.
    Refused,
    /// Ended early while its backend lived.
    Cut,
    /// Nothing passed for fifteen seconds.
    Stalled,
    /// The proxy wrote no line about it.
    Unrecorded,
    /// Ended early because its backend was killed.
    Excused,
}

impl Loss {
    pub const ALL: [Loss; 6] =
        [Loss::Wrong, Loss::Refused, Loss::Cut, Loss::Stalled, Loss::Unrecorded, Loss::Excused];

    pub fn title(self) -> &'static str {
        match self {
            Loss::Wrong => "wrong bytes",
            Loss::Refused => "refused with a healthy backend there",
            Loss::Cut => "cut on a living backend",
            Loss::Stalled => "stalled for 15 s",
            Loss::Unrecorded => "without a line in the access log",
            Loss::Excused => "cut because their backend was killed (expected)",
        }
    }
}

/// Counts of losses, and the words of the first that nothing excuses.
#[derive(Default)]
pub struct Judge {
    pending: Vec<Suspect>,
    counts: [u64; Loss::ALL.len()],
    pub told: Vec<String>,
}

impl Judge {
    /// Decides what can be decided by now.
    pub fn decide(&mut self, new: Vec<Suspect>, log: &AccessLog, kills: &[Kill], now: Millis) {
        self.pending.extend(new);
        for suspect in std::mem::take(&mut self.pending) {
            let line = suspect.client.and_then(|client| {
                log.find(client, suspect.opened.saturating_sub(SLACK), suspect.noticed + SLACK)
            });
            match decide(&suspect, line, kills, now) {
                None => self.pending.push(suspect),
                Some(loss) => self.count(loss, &suspect, line),
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn of(&self, loss: Loss) -> u64 {
        self.counts[loss as usize]
    }

    /// Everything that nothing excuses, wrong bytes included.
    pub fn unexcused(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.of(Loss::Excused)
    }

    fn count(&mut self, loss: Loss, suspect: &Suspect, line: Option<&Line>) {
        self.counts[loss as usize] += 1;
        if loss == Loss::Excused || self.told.len() >= TOLD {
            return;
        }
        let client = suspect.client.map_or("-".to_owned(), |client| client.to_string());
        let record = line.map_or("no line in the access log".to_owned(), |line| {
            let backend = line.backend.as_deref().unwrap_or("-");
            format!("{backend} {} {}, {} ms", line.why, line.detail, line.ended - line.accepted)
        });
        let (kind, fault) = (suspect.kind.title(), &suspect.fault);
        self.told.push(format!("{}: {kind}, {client}, {fault}; {record}", loss.title()));
    }
}

fn decide(suspect: &Suspect, line: Option<&Line>, kills: &[Kill], now: Millis) -> Option<Loss> {
    match suspect.fault {
        Fault::NotConnected(_) => return Some(Loss::Refused),
        Fault::Wrong(_) => return Some(Loss::Wrong),
        Fault::Stalled => return Some(Loss::Stalled),
        Fault::Cut(_) => {}
    }
    let Some(line) = line else {
        return (now > suspect.noticed + RECORD_DUE).then_some(Loss::Unrecorded);
    };
    // Once connected, it is the sides that end a connection; any other reason is one of the proxy.
    match line.why.as_str() {
        "backend-reset" | "backend-finished" | "client-finished" | "client-reset" => {}
        "idle-timeout" | "max-duration" | "drain-cut" | "internal-error" => return Some(Loss::Cut),
        _ => return Some(Loss::Refused),
    }
    let killed = kills.iter().rev().any(|kill| {
        Some(&kill.backend) == line.backend.as_ref()
            && kill.from <= line.ended + SLACK
            && kill.to + SLACK >= line.accepted
    });
    Some(if killed { Loss::Excused } else { Loss::Cut })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Kind;

    fn suspect(fault: Fault) -> Suspect {
        let client = Some("127.0.2.1:1000".parse().unwrap());
        Suspect { kind: Kind::Short, fault, client, opened: 10_000, noticed: 20_000 }
    }

    fn line(why: &str) -> Line {
        Line {
            client: "127.0.2.1:1000".parse().unwrap(),
            backend: Some("a".to_owned()),
            why: why.to_owned(),
            detail: String::new(),
            accepted: 10_000,
            ended: 15_000,
        }
    }

    fn loss(why: &str, backend: &str, died: Millis) -> Option<Loss> {
        let kill = Kill { backend: backend.to_owned(), from: died, to: died + 10 };
        decide(&suspect(Fault::Cut(String::new())), Some(&line(why)), &[kill], 21_000)
    }

    #[test]
    fn only_the_death_of_its_own_backend_in_its_own_time_excuses_a_cut() {
        assert_eq!(loss("backend-reset", "a", 14_995), Some(Loss::Excused));
        assert_eq!(loss("backend-finished", "a", 14_995), Some(Loss::Excused));
        assert_eq!(loss("backend-reset", "b", 14_995), Some(Loss::Cut));
        assert_eq!(loss("backend-reset", "a", 9_000), Some(Loss::Cut));
        assert_eq!(loss("backend-reset", "a", 16_000), Some(Loss::Cut));
        assert_eq!(loss("connect-refused", "a", 14_995), Some(Loss::Refused));
        assert_eq!(loss("internal-error", "a", 14_995), Some(Loss::Cut));
    }

    #[test]
    fn nothing_excuses_wrong_bytes_and_a_missing_line_is_waited_for() {
        let wrong = suspect(Fault::Wrong(String::new()));
        assert_eq!(decide(&wrong, None, &[], 0), Some(Loss::Wrong));
        let cut = suspect(Fault::Cut(String::new()));
        assert_eq!(decide(&cut, None, &[], 21_000), None);
        assert_eq!(decide(&cut, None, &[], 41_000), Some(Loss::Unrecorded));
    }
}
