//! Where the picks of a journal would have gone by another config, and how the load would have spread. The traffic is taken as it
//! was, with its tickets, keys, verdicts and durations; only the config is another one.

use std::collections::{BTreeMap, HashMap};

use evenkeel_balance::{Algorithm, Ask, HashOn, Loads, Member, health};
use serde::Serialize;

use super::key::key_of_address;
use super::replay::TABLES_KEPT;
use super::tables::{Members, Plainly, Tables};
use super::{EntryPlace, KeyPart, Rules};
use crate::observe::journal::{BalanceNote, Chronicle, Entry, LineUpNote, Outcome, Pick};

/// Movers that are told of one by one.
const MOVERS_TOLD: usize = 20;

/// Where the picks of one upstream would have gone.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) upstream: String,
    /// Picks that were made anew.
    pub(crate) picks: usize,
    /// Those that would have gone elsewhere.
    pub(crate) moved: usize,
    /// Picks that cannot be made anew: what decides for hashing by the new config is not in the journal.
    pub(crate) without_key: usize,
    /// It is not in the new config at all.
    pub(crate) is_gone: bool,
    pub(crate) backends: Vec<Share>,
    /// The first of those who would have gone elsewhere.
    pub(crate) movers: Vec<Mover>,
}

/// What one backend got, and would have.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Share {
    /// Nobody, if empty.
    pub(crate) backend: String,
    pub(crate) before: usize,
    pub(crate) after: usize,
}

/// One that would have gone elsewhere.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mover {
    pub(crate) at: u64,
    pub(crate) client: Option<String>,
    pub(crate) request: Option<String>,
    pub(crate) before: String,
    pub(crate) after: String,
}

/// Goes through a journal with other rules, upstream by upstream. Only first tries count: what was tried next rests on who failed.
pub(crate) fn instead(chronicle: &Chronicle, rules: &[Rules]) -> Vec<Spread> {
    let mut all: BTreeMap<&str, Course<'_>> = BTreeMap::new();
    // Whose course a place belongs to that is given back.
    let mut places: HashMap<(u16, u64), (&str, u32)> = HashMap::new();
    for entry in &chronicle.entries {
        match entry {
            Entry::Pick(pick) => {
                let Some(line_up) = chronicle.line_ups.get(&pick.line_up) else { continue };
                let name = line_up.upstream.as_str();
                let course = all.entry(name).or_insert_with(|| {
                    Course::new(rules.iter().find(|rules| *rules.name == *name))
                });
                if let Some(taken) = course.pick(pick, line_up) {
                    places.insert((pick.worker, pick.position), (name, taken));
                }
            }
            Entry::End(end) => {
                if let Some((name, backend)) = places.remove(&(end.worker, end.position))
                    && let Some(course) = all.get_mut(name)
                {
                    course.give_back(backend);
                }
            }
        }
    }
    all.into_iter().map(|(name, course)| course.told(name)).collect()
}

/// The picks of one upstream under way.
#[derive(Debug)]
struct Course<'a> {
    /// None where it is not in the new config.
    rules: Option<&'a Rules>,
    /// Backends by name: their numbers in everything below.
    numbers: HashMap<String, u32>,
    open: Vec<u32>,
    latencies: Vec<f64>,
    shares: Vec<Share>,
    /// By the line-up that was picked from.
    line_ups: HashMap<u32, Instead>,
    spread: Spread,
}

/// A line-up as it would have been.
#[derive(Debug)]
struct Instead {
    tables: Tables,
    /// By member: its number in the course, and how many connections it may have.
    members: Vec<(u32, u32)>,
}

impl<'a> Course<'a> {
    fn new(rules: Option<&'a Rules>) -> Course<'a> {
        Course {
            rules,
            numbers: HashMap::new(),
            open: Vec::new(),
            latencies: Vec::new(),
            shares: Vec::new(),
            line_ups: HashMap::new(),
            spread: Spread { is_gone: rules.is_none(), ..Spread::default() },
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.shares.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.shares.push(Share { backend: name.to_owned(), ..Share::default() });
        self.open.push(0);
        self.latencies.push(0.0);
        number
    }

    /// Makes a pick anew; the number of the backend whose place is taken by it.
    fn pick(&mut self, pick: &Pick, line_up: &LineUpNote) -> Option<u32> {
        for (index, bits) in &pick.reads.latencies {
            let number = self.number(line_up.name(*index)?);
            self.latencies[number as usize] = f64::from_bits(*bits);
        }
        if !pick.tried.is_empty() || pick.outcome == Outcome::FilledUp {
            return None;
        }
        let rules = self.rules?;
        let Some(key) = key(rules, pick, line_up) else {
            self.spread.without_key += 1;
            return None;
        };
        if !self.line_ups.contains_key(&pick.line_up) {
            if self.line_ups.len() >= TABLES_KEPT {
                self.line_ups.clear();
            }
            let instead = self.line_up(rules, line_up);
            self.line_ups.insert(pick.line_up, instead);
        }
        let instead = &self.line_ups[&pick.line_up];
        let preferred = pick.preferred.and_then(|index| line_up.name(index));
        let preferred = preferred.and_then(|name| self.numbers.get(name));
        let preferred = preferred.and_then(|number| {
            let place = instead.members.iter().position(|(member, _)| member == number)?;
            u32::try_from(place).ok()
        });
        let loads = Simulated { course: self, members: &instead.members };
        let ask = Ask { key, tried: &[], preferred, ticket: pick.ticket, seed: pick.seed };
        let after = instead.tables.pick(&loads, &ask, &mut Plainly);
        let after = after.and_then(|index| instead.members.get(index as usize)).map(|(n, _)| *n);
        let before = pick.picked.and_then(|index| line_up.name(index)).unwrap_or_default();
        let before = self.number(before);
        let nobody = self.number("");
        self.count(pick, before, after.unwrap_or(nobody));
        if let Some(number) = after {
            self.open[number as usize] += 1;
        }
        after
    }

    fn count(&mut self, pick: &Pick, before: u32, after: u32) {
        self.spread.picks += 1;
        self.shares[before as usize].before += 1;
        self.shares[after as usize].after += 1;
        if before == after {
            return;
        }
        self.spread.moved += 1;
        if self.spread.movers.len() < MOVERS_TOLD {
            let name = |number: u32| self.shares[number as usize].backend.clone();
            self.spread.movers.push(Mover {
                at: pick.at,
                client: pick.asker.client.map(|client| client.to_string()),
                request: pick.asker.request.map(|request| request.to_string()),
                before: name(before),
                after: name(after),
            });
        }
    }

    fn give_back(&mut self, backend: u32) {
        let open = &mut self.open[backend as usize];
        *open = open.saturating_sub(1);
    }

    /// Who would have taken part at the time of a line-up: those of the new config, with the verdicts and addresses of then.
    fn line_up(&mut self, rules: &Rules, then: &LineUpNote) -> Instead {
        let mut all = Vec::new();
        for entry in &rules.entries {
            let names: Vec<&str> = match &entry.place {
                EntryPlace::At(address) => {
                    let name = address.to_string();
                    let known = then.backends.iter().find(|known| known.name == name);
                    all.push((entry, name, known));
                    continue;
                }
                EntryPlace::Named { host, port } => {
                    let authority = format!("{host}:{port}");
                    let known = then.backends.iter().filter(|known| known.authority == authority);
                    known.map(|known| &*known.name).collect()
                }
            };
            for name in names {
                let known = then.backends.iter().find(|known| known.name == name);
                all.push((entry, name.to_owned(), known));
            }
        }
        let (mut members, mut by_number) = (Vec::new(), Vec::new());
        for (index, (entry, name, known)) in all.iter().enumerate() {
            let state = known.map_or("healthy", |known| &*known.state);
            let weight = if matches!(state, "drained" | "down") { 0 } else { entry.weight };
            let member = Member { index: index as u32, name: name.clone(), weight };
            members.push((member, entry.backup, state == "healthy"));
            by_number.push((self.number(name), entry.connections_max.unwrap_or(u32::MAX)));
        }
        let active = members.iter().filter(|(member, ..)| member.weight > 0).count();
        let usable = members.iter().filter(|(member, _, is)| *is && member.weight > 0).count();
        let open = health::fail_open(active, usable, rules.fail_open_percent);
        let part = |backup: bool| {
            let chosen =
                members.iter().filter(|(_, is, usable)| *is == backup && (*usable || open));
            chosen.map(|(member, ..)| member.clone()).collect()
        };
        let members = Members { main: part(false), backup: part(true), drained: Vec::new() };
        Instead { tables: Tables::build(&rules.balance, &members), members: by_number }
    }

    fn told(mut self, upstream: &str) -> Spread {
        self.shares.retain(|share| share.before + share.after > 0);
        self.shares.sort_by(|one, other| one.backend.cmp(&other.backend));
        Spread { upstream: upstream.to_owned(), backends: self.shares, ..self.spread }
    }
}

/// What decides for hashing by these rules; none if it is not in the record.
fn key(rules: &Rules, pick: &Pick, then: &LineUpNote) -> Option<u64> {
    let Algorithm::Hash { on, .. } = &rules.balance else { return Some(0) };
    let (was_ring, is_ring) = (matches!(then.balance, BalanceNote::Ring(_)), *on == HashOn::Ring);
    let was_hash =
        was_ring || matches!(then.balance, BalanceNote::Maglev(_) | BalanceNote::Rendezvous(_));
    if was_hash && was_ring == is_ring && then.key == format!("{:?}", rules.key_part) {
        return Some(pick.key);
    }
    (rules.key_part == KeyPart::Source).then(|| key_of_address(&rules.balance, pick.asker.client))
}

/// The loads as they would be by then: who was sent there and has not left yet.
struct Simulated<'a, 'r> {
    course: &'a Course<'r>,
    members: &'a [(u32, u32)],
}

impl Simulated<'_, '_> {
    fn number(&self, index: u32) -> usize {
        self.members.get(index as usize).map_or(0, |(number, _)| *number as usize)
    }
}

impl Loads for Simulated<'_, '_> {
    fn open(&self, index: u32) -> u32 {
        self.course.open[self.number(index)]
    }
    fn latency(&self, index: u32) -> f64 {
        self.course.latencies[self.number(index)]
    }
    fn has_room(&self, index: u32) -> bool {
        let most = self.members.get(index as usize).map_or(0, |(_, most)| *most);
        self.open(index) < most
    }
}
