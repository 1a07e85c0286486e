//! What the running process said of itself (`GET /v1/state`), and what follows from two readings: rates, and times of what happened in
//! between. What is missing in an answer is nothing; a process of another version may say less.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

/// Readings whose sums are kept for the small pictures.
const KEPT: usize = 120;

/// Counts by name.
pub(super) type Named = BTreeMap<String, u64>;

/// How everything is at one time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) uptime_ms: u64,
    pub(super) now_at_ms: u64,
    pub(super) draining: bool,
    pub(super) confirm_within_ms: Option<u64>,
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) requests: Named,
    pub(super) ended: Named,
    pub(super) requests_ended: Named,
    pub(super) process: Process,
    pub(super) listeners: Vec<Listener>,
    pub(super) upstreams: Vec<Upstream>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) descriptors: Share,
    pub(super) memory: Share,
    pub(super) workers: Vec<Worker>,
    pub(super) panics: u64,
    pub(super) stalls: u64,
    pub(super) log_lines_lost: Named,
}

/// How much there is of something.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Share {
    #[serde(alias = "open")]
    pub(super) used: Option<u64>,
    pub(super) max: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Worker {
    pub(super) busy: Option<f64>,
    pub(super) delay_ms: Delay,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delay {
    pub(super) p99: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) addresses: Vec<String>,
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) requests: Named,
    pub(super) ended: Named,
    pub(super) latency: Latency,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) balance: String,
    pub(super) queue: Queue,
    pub(super) backends: Vec<Backend>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) waiting: u64,
    pub(super) max: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Backend {
    pub(super) backend: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) operator: Option<String>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) open: u64,
    pub(super) connections: u64,
    pub(super) failures: u64,
    pub(super) requests: u64,
    pub(super) responses: Named,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) latency: Latency,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) connect: Times,
    pub(super) first_byte: Times,
    pub(super) total: Times,
}

/// How long something took: how many took at most so many milliseconds; the last step has no end.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) buckets: Vec<(serde_json::Value, u64)>,
}

impl Times {
    /// The time in milliseconds that this share took at most, of what came after a reading before; none where nothing came.
    pub(super) fn quantile(&self, before: Option<&Times>, share: f64) -> Option<f64> {
        let old = |at: usize| before.and_then(|it| it.buckets.get(at)).map_or(0, |(_, n)| *n);
        let news = self.buckets.iter().enumerate();
        let news: Vec<_> =
            news.map(|(at, (end, count))| (end.as_f64(), count.saturating_sub(old(at)))).collect();
        let all = news.last()?.1;
        if all == 0 {
            return None;
        }
        let wanted = (share * all as f64).max(1.0);
        let (mut begin, mut below) = (0.0, 0);
        for (end, count) in news {
            if count as f64 >= wanted {
                // In the last step, all that is known is where it begins.
                let Some(end) = end else { return Some(begin) };
                let part = (wanted - below as f64) / (count - below).max(1) as f64;
                return Some(begin + (end - begin) * part);
            }
            (begin, below) = (end.unwrap_or(begin), count);
        }
        None
    }
}

/// A line of a table: a listener, an upstream or a backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Of a backend, the upstream that it is in.
    pub(super) within: Option<String>,
    pub(super) state: String,
    /// What more there is to say, where there is room for it.
    pub(super) more: String,
    pub(super) open: u64,
    /// Requests a second; on TCP, connections.
    pub(super) rate: f64,
    /// Those that failed.
    pub(super) errors: f64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Bytes a second.
    pub(super) up: f64,
    pub(super) down: f64,
}

/// Sums of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) accepted: f64,
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) up: f64,
    pub(super) down: f64,
}

/// Two readings, and the sums of those before.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) now: State,
    before: Option<State>,
    history: VecDeque<Sums>,
}

impl Readings {
    /// Takes one more. A process that has taken over counts from the beginning again.
    pub(super) fn take(&mut self, state: State) {
        let is_same = self.now.pid == state.pid && self.now.now_at_ms > 0;
        let before = std::mem::replace(&mut self.now, state);
        self.before = is_same.then_some(before);
        if !is_same {
            self.history.clear();
        }
        if self.before.is_some() {
            self.history.push_back(self.sums());
        }
        if self.history.len() > KEPT {
            self.history.pop_front();
        }
    }

    /// The last of the sums, as many as there are, the newest at the end.
    pub(super) fn history(&self, count: usize, of: fn(&Sums) -> f64) -> Vec<f64> {
        let from = self.history.len().saturating_sub(count);
        self.history.range(from..).map(of).collect()
    }

    /// What happened in the last second.
    pub(super) fn sums(&self) -> Sums {
        let old = self.before.as_ref();
        let failed = |state: &State| failures(&state.ended) + failures(&state.requests_ended);
        Sums {
            accepted: self.rate(old.map(|it| it.accepted), self.now.accepted),
            requests: self.rate(old.map(|it| sum(&it.requests)), sum(&self.now.requests)),
            errors: self.rate(old.map(failed), failed(&self.now)),
            up: self.rate(old.map(|it| it.bytes_up), self.now.bytes_up),
            down: self.rate(old.map(|it| it.bytes_down), self.now.bytes_down),
        }
    }

    /// So many a second since the reading before; nothing without one.
    fn rate(&self, old: Option<u64>, new: u64) -> f64 {
        let (Some(old), Some(before)) = (old, &self.before) else { return 0.0 };
        let millis = self.now.now_at_ms.saturating_sub(before.now_at_ms).max(1);
        new.saturating_sub(old) as f64 * 1000.0 / millis as f64
    }

    pub(super) fn listeners(&self) -> Vec<Row> {
        let row = |it: &Listener| {
            let old = self.before.as_ref();
            let old = old.and_then(|old| old.listeners.iter().find(|old| old.name == it.name));
            let done = |it: &Listener| match it.kind.as_str() {
                "http" => sum(&it.requests),
                _ => it.accepted,
            };
            let before = old.map(|old| &old.latency.total);
            Row {
                name: it.name.clone(),
                within: None,
                state: it.addresses.join(", "),
                more: String::new(),
                open: it.open,
                rate: self.rate(old.map(done), done(it)),
                errors: self.rate(old.map(|old| failures(&old.ended)), failures(&it.ended)),
                p50: it.latency.total.quantile(before, 0.5),
                p99: it.latency.total.quantile(before, 0.99),
                up: self.rate(old.map(|old| old.bytes_up), it.bytes_up),
                down: self.rate(old.map(|old| old.bytes_down), it.bytes_down),
            }
        };
        self.now.listeners.iter().map(row).collect()
    }

    /// Each upstream as the sum of its backends.
    pub(super) fn upstreams(&self) -> Vec<Row> {
        let row = |it: &Upstream| {
            let rows = self.of(it);
            let usable = it.backends.iter().filter(|it| it.state == "healthy").count();
            let mut more = it.balance.clone();
            if it.queue.waiting > 0 {
                more += &format!(", {} of {} wait", it.queue.waiting, it.queue.max);
            }
            let add = |part: fn(&Row) -> f64| rows.iter().map(part).sum();
            Row {
                name: it.name.clone(),
                within: None,
                state: format!("{usable}/{} up", rows.len()),
                more,
                open: rows.iter().map(|row| row.open).sum(),
                rate: add(|row| row.rate),
                errors: add(|row| row.errors),
                p50: None,
                p99: None,
                up: add(|row| row.up),
                down: add(|row| row.down),
            }
        };
        self.now.upstreams.iter().map(row).collect()
    }

    /// Every backend.
    pub(super) fn backends(&self) -> Vec<Row> {
        self.now.upstreams.iter().flat_map(|it| self.of(it)).collect()
    }

    fn of(&self, upstream: &Upstream) -> Vec<Row> {
        let old = self.before.as_ref();
        let old = old.and_then(|old| old.upstreams.iter().find(|old| old.name == upstream.name));
        let row = |it: &Backend| {
            let old = old.and_then(|old| old.backends.iter().find(|old| old.backend == it.backend));
            let done = |it: &Backend| if it.requests > 0 { it.requests } else { it.connections };
            let failed =
                |it: &Backend| it.failures + it.responses.get("5xx").copied().unwrap_or_default();
            // On TCP, what is known of a backend is how soon it begins to answer.
            let times = |it: &Latency| match it.total.count {
                0 => it.first_byte.clone(),
                _ => it.total.clone(),
            };
            let (now, before) = (times(&it.latency), old.map(|old| times(&old.latency)));
            let mut more: Vec<String> = it.operator.iter().chain(&it.reason).cloned().collect();
            if it.weight != 1 {
                more.push(format!("weight {}", it.weight));
            }
            if it.backup {
                more.push("backup".to_owned());
            }
            Row {
                name: it.backend.clone(),
                within: Some(upstream.name.clone()),
                state: it.state.clone(),
                more: more.join(", "),
                open: it.open,
                rate: self.rate(old.map(done), done(it)),
                errors: self.rate(old.map(failed), failed(it)),
                p50: now.quantile(before.as_ref(), 0.5),
                p99: now.quantile(before.as_ref(), 0.99),
                up: self.rate(old.map(|old| old.bytes_up), it.bytes_up),
                down: self.rate(old.map(|old| old.bytes_down), it.bytes_down),
            }
        };
        upstream.backends.iter().map(row).collect()
    }

    /// Reasons for which something ended, with how many did in the last second and so far; the most of the last second first.
    pub(super) fn reasons(&self) -> Vec<(String, f64, u64)> {
        let old = self.before.as_ref();
        let mut all: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        let kinds: [fn(&State) -> &Named; 2] =
            [|state| &state.ended, |state| &state.requests_ended];
        for kind in kinds {
            for (name, count) in kind(&self.now).iter().filter(|(_, count)| **count > 0) {
                let before = old.map(|old| kind(old).get(name).copied().unwrap_or_default());
                let entry = all.entry(name.clone()).or_default();
                entry.0 += self.rate(before, *count);
                entry.1 += count;
            }
        }
        let mut all: Vec<_> =
            all.into_iter().map(|(name, (rate, sum))| (name, rate, sum)).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1).then(other.2.cmp(&one.2)));
        all
    }
}

fn sum(counts: &Named) -> u64 {
    counts.values().sum()
}

/// All ends but those that are meant to be.
fn failures(ended: &Named) -> u64 {
    let meant = ["client-finished", "backend-finished", "answered", "replied"];
    let others = ended.iter().filter(|(name, _)| !meant.contains(&name.as_str()));
    others.map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn times(steps: &[(f64, u64)], all: u64) -> Times {
        let steps = steps.iter().map(|(end, count)| (json!(end), *count));
        Times { count: all, buckets: steps.chain([(json!("inf"), all)]).collect() }
    }

    #[test]
    fn times_are_those_of_what_came_since_the_reading_before() {
        let before = times(&[(1.0, 100), (10.0, 100)], 100);
        let now = times(&[(1.0, 100), (10.0, 110)], 120);
        assert_eq!(now.quantile(None, 0.5), Some(0.6));
        assert_eq!(now.quantile(Some(&before), 0.25), Some(5.5));
        assert_eq!(now.quantile(Some(&before), 0.99), Some(10.0), "where the last step begins");
        assert_eq!(now.quantile(Some(&now), 0.5), None, "nothing came");
        assert_eq!(Times::default().quantile(None, 0.5), None);
    }

    #[test]
    fn rates_are_of_two_readings_of_the_same_process() {
        let state = |pid: u32, at: u64, accepted: u64| State {
            pid,
            now_at_ms: at,
            accepted,
            ..State::default()
        };
        let mut readings = Readings::default();
        readings.take(state(1, 1000, 500));
        assert_eq!(readings.sums().accepted, 0.0);
        readings.take(state(1, 3000, 700));
        assert_eq!(readings.sums().accepted, 100.0);
        assert_eq!(readings.history(9, |sums| sums.accepted), [100.0]);
        // It has been taken over: what it counts is less, and no rate.
        readings.take(state(2, 4000, 10));
        assert_eq!(readings.sums().accepted, 0.0);
        assert!(readings.history(9, |sums| sums.accepted).is_empty());
    }

    #[test]
    fn an_answer_that_says_less_is_read_too() {
        let state: State =
            serde_json::from_str(r#"{ "pid": 7, "upstreams": [{}], "later": [1] }"#).unwrap();
        let mut readings = Readings::default();
        readings.take(state);
        assert_eq!(readings.upstreams()[0].state, "0/0 up");
        assert!(readings.listeners().is_empty() && readings.backends().is_empty());
    }
}
