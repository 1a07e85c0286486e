//! Picks of a journal, made again: from the line-up and the loads that were noted, by the tables that traffic is picked from. Nothing
//! but the record decides, so that one that comes out differently shows a fault, here or in the record.

use std::cell::Cell;
use std::collections::HashMap;

use evenkeel_balance::{Algorithm, Ask, Loads};

use super::explain::{not_looked_at, outcome, reason};
use super::tables::{Manner, Members, NoPick, Plainly, Tables, WithReasons};
pub(crate) use super::what_if::{Spread, instead};
use crate::observe::journal::{BackendNote, Chronicle, LineUpNote, Outcome, Pick, Reads};
use crate::observe::reasons::{CandidateRow, Choice};

/// Line-ups whose tables are kept: some have many entries.
pub(super) const TABLES_KEPT: usize = 64;

/// What making them again has come to.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Picks that came out the same.
    pub(crate) same: usize,
    /// Picks of which the record does not hold everything that was read.
    pub(crate) partial: usize,
    /// Picks whose line-up is not in the journal any more.
    pub(crate) without_line_up: usize,
    /// Those that came out differently.
    pub(crate) different: usize,
    /// The first of them.
    pub(crate) first: Option<Difference>,
}

/// A pick that came out differently.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) pick: Pick,
    pub(crate) upstream: String,
    /// In words: where it went by the record, and where it goes now.
    pub(crate) recorded: String,
    pub(crate) now: String,
}

/// Makes every pick again.
pub(crate) fn again(chronicle: &Chronicle) -> Replayed {
    let (mut replayed, mut kept) = (Replayed::default(), HashMap::new());
    for pick in chronicle.picks() {
        let Some(line_up) = chronicle.line_ups.get(&pick.line_up) else {
            replayed.without_line_up += 1;
            continue;
        };
        if kept.len() >= TABLES_KEPT && !kept.contains_key(&pick.line_up) {
            kept.clear();
        }
        let tables = kept.entry(pick.line_up).or_insert_with(|| tables(line_up));
        let loads = Recorded::new(&pick.reads, &line_up.backends);
        let now = made(tables, &loads, pick, line_up.pending, &mut Plainly);
        if pick.reads.is_partial {
            replayed.partial += 1;
        } else if now == recorded(pick) && !loads.is_lacking.get() {
            replayed.same += 1;
        } else {
            replayed.different += 1;
            let said = |answer| said(line_up, answer);
            let lacks = if loads.is_lacking.get() { ", by loads that were not noted" } else { "" };
            replayed.first.get_or_insert_with(|| Difference {
                pick: pick.clone(),
                upstream: line_up.upstream.clone(),
                recorded: said(recorded(pick)),
                now: format!("{}{lacks}", said(now)),
            });
        }
    }
    replayed
}

/// Why a pick of the journal came out as it did; none if its line-up is not there any more.
pub(crate) fn explain(chronicle: &Chronicle, pick: &Pick) -> Option<Choice> {
    let line_up = chronicle.line_ups.get(&pick.line_up)?;
    let loads = Recorded::new(&pick.reads, &line_up.backends);
    let mut reasons = WithReasons::default();
    let now = made(&tables(line_up), &loads, pick, line_up.pending, &mut reasons);
    let names: Vec<&str> = line_up.backends.iter().map(|backend| &*backend.name).collect();
    let row = |(index, backend): (u32, &BackendNote)| {
        let (why, score) = outcome(&reasons.0, now.ok(), index, &names);
        let tried = pick.tried.contains(&index).then(|| "already tried".to_owned());
        let why = why.or(tried).unwrap_or_else(|| not_looked_at(&backend.state, backend.backup));
        let open = pick.reads.opens.iter().find(|(read, _)| *read == index);
        let latency = pick.reads.latencies.iter().find(|(read, _)| *read == index);
        CandidateRow {
            backend: backend.name.clone(),
            state: backend.state.clone(),
            weight: backend.weight,
            backup: backend.backup,
            open: open.map(|(_, open)| *open),
            connections_max: Some(backend.most).filter(|most| *most != u32::MAX),
            latency_ms: latency.map_or(0.0, |(_, bits)| f64::from_bits(*bits) * 1000.0),
            score,
            picked: now == Ok(index),
            why,
        }
    };
    let algorithm = Algorithm::from(&line_up.balance);
    let is_hashing = matches!(algorithm, Algorithm::Hash { .. });
    let name = |index: u32| names.get(index as usize).map(|name| (*name).to_owned());
    Some(Choice {
        upstream: line_up.upstream.clone(),
        balance: line_up.balance.to_string(),
        key: is_hashing.then(|| format!("{:016x}", pick.key)),
        ticket: pick.ticket,
        session: pick.preferred.and_then(name),
        candidates: (0..).zip(&line_up.backends).map(row).collect(),
        picked: now.ok().and_then(name),
        why: match now {
            Ok(index) if pick.preferred == Some(index) => "its session was there".to_owned(),
            Ok(_) => reason(&algorithm, pick.ticket),
            Err(why) => Outcome::from(why).as_str().to_owned(),
        },
    })
}

/// The tables that a line-up was picked from.
fn tables(line_up: &LineUpNote) -> Tables {
    let members = Members {
        main: line_up.members(&line_up.main),
        backup: line_up.members(&line_up.backup),
        drained: line_up.members(&line_up.drained),
    };
    Tables::build(&Algorithm::from(&line_up.balance), &members)
}

fn made(
    tables: &Tables,
    loads: &impl Loads,
    pick: &Pick,
    pending: bool,
    how: &mut impl Manner,
) -> Result<u32, NoPick> {
    let Pick { key, ref tried, preferred, ticket, seed, .. } = *pick;
    let ask = Ask { key, tried, preferred, ticket, seed };
    tables.pick(loads, &ask, how).ok_or_else(|| tables.why_none(tried, pending))
}

fn recorded(pick: &Pick) -> Result<u32, NoPick> {
    match (pick.outcome, pick.picked) {
        (Outcome::AllFull, _) => Err(NoPick::AllFull),
        (Outcome::NotYetKnown, _) => Err(NoPick::NotYetKnown),
        (Outcome::NobodyLeft, _) | (_, None) => Err(NoPick::NobodyLeft),
        (Outcome::Taken | Outcome::FilledUp, Some(index)) => Ok(index),
    }
}

fn said(line_up: &LineUpNote, answer: Result<u32, NoPick>) -> String {
    match answer {
        Ok(index) => line_up.name(index).unwrap_or("a backend that it does not have").to_owned(),
        Err(why) => format!("nobody, as {}", Outcome::from(why).as_str()),
    }
}

/// The loads that a record holds.
#[derive(Debug)]
struct Recorded<'a> {
    reads: &'a Reads,
    backends: &'a [BackendNote],
    /// Something was asked for that it does not hold.
    is_lacking: Cell<bool>,
}

impl<'a> Recorded<'a> {
    fn new(reads: &'a Reads, backends: &'a [BackendNote]) -> Recorded<'a> {
        Recorded { reads, backends, is_lacking: Cell::new(false) }
    }

    fn found<T: Copy + Default>(&self, among: &[(u32, T)], index: u32) -> T {
        let straight = among.get(index as usize).filter(|(known, _)| *known == index);
        let found = straight.or_else(|| among.iter().find(|(known, _)| *known == index));
        self.is_lacking.set(self.is_lacking.get() || found.is_none());
        found.map(|(_, value)| *value).unwrap_or_default()
    }
}

impl Loads for Recorded<'_> {
    fn open(&self, index: u32) -> u32 {
        self.found(&self.reads.opens, index)
    }
    fn latency(&self, index: u32) -> f64 {
        f64::from_bits(self.found(&self.reads.latencies, index))
    }
    fn has_room(&self, index: u32) -> bool {
        let most = self.backends.get(index as usize).map_or(0, |backend| backend.most);
        self.open(index) < most
    }
    fn total_open(&self) -> Option<u64> {
        self.is_lacking.set(self.is_lacking.get() || self.reads.total.is_none());
        Some(self.reads.total.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_balance::HashOn;
    use proptest::prelude::*;

    use super::super::tests::{address, upstream};
    use super::super::{Affinity, BackendAddress, Entry, EntryPlace, Rules, Upstream};
    use super::*;
    use crate::observe::journal::Journal;

    fn algorithm() -> impl Strategy<Value = Algorithm> {
        let on = proptest::sample::select(&[HashOn::Maglev, HashOn::Ring, HashOn::Rendezvous][..]);
        let bound = proptest::option::of(1.0..3.0);
        prop_oneof![
            Just(Algorithm::RoundRobin),
            Just(Algorithm::Random),
            Just(Algorithm::LeastConnections),
            Just(Algorithm::PowerOfTwo),
            Just(Algorithm::LeastLatency),
            Just(Algorithm::First),
            (on, bound).prop_map(|(on, bounded_load)| Algorithm::Hash { on, bounded_load }),
        ]
    }

    fn entry() -> impl Strategy<Value = (u32, bool, Option<u32>)> {
        (0..6_u32, proptest::bool::weighted(0.2), proptest::option::of(1..4_u32))
    }

    /// What is done in one step: a key to pick with, whether to try again elsewhere, a place to give back, a backend that fails, one
    /// that answers in so many milliseconds.
    type Step = (u64, bool, Option<u8>, Option<u8>, Option<(u8, u16)>);

    fn step() -> impl Strategy<Value = Step> {
        let maybe = |share: f64| proptest::option::weighted(share, any::<u8>());
        (
            0..20_u64,
            proptest::bool::weighted(0.3),
            maybe(0.4),
            maybe(0.05),
            proptest::option::weighted(0.3, (any::<u8>(), 1..2000_u16)),
        )
    }

    /// Takes the steps; how many picks were made.
    fn take(upstream: &std::sync::Arc<Upstream>, steps: &[Step]) -> Result<usize, TestCaseError> {
        let (mut held, mut count) = (Vec::new(), 0);
        for (key, again, back, fails, answers) in steps {
            let affinity = Affinity { key: *key, ..Affinity::default() };
            let weighed = upstream.weigh(affinity);
            let foreseen =
                weighed.picked.map(|index| weighed.backends[index as usize].name.clone());
            let place = upstream.pick(affinity, &[]);
            let name = place.as_ref().map(|place| place.backend.name.clone());
            prop_assert_eq!(name.map_err(|why| *why), foreseen);
            count += 1;
            if let Ok(place) = place {
                if *again {
                    held.extend(upstream.pick(affinity, std::slice::from_ref(&place.backend)).ok());
                    count += 1;
                }
                held.push(place);
            }
            if let Some(at) = back
                && !held.is_empty()
            {
                drop(held.swap_remove(usize::from(*at) % held.len()));
            }
            let backends = upstream.backends();
            let of = |at: u8| &backends[usize::from(at) % backends.len()];
            if let Some((at, millis)) = answers {
                of(*at).answered(upstream.now(), Duration::from_millis(u64::from(*millis)));
            }
            if let Some(at) = fails {
                upstream.note_traffic(of(*at), false);
                upstream.settle();
            }
        }
        Ok(count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_pick_is_what_was_foreseen_and_comes_out_the_same_when_it_is_made_again(
            balance in algorithm(),
            entries in proptest::collection::vec(entry(), 1..9),
            steps in proptest::collection::vec(step(), 1..80),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(Some(folder.path()), 1 << 20, 1).unwrap();
            journal.begin_thread(0);
            let entry = |(number, (weight, backup, connections_max)): (u8, (u32, bool, Option<u32>))| {
                let place = EntryPlace::At(BackendAddress::Ip(address(number)));
                Entry { place, weight, backup, connections_max }
            };
            let entries = (1..).zip(entries).map(entry).collect();
            let rules = Rules { balance, entries, ..upstream(Vec::new()).rules.clone() };
            let upstream = Upstream::new(rules, None, None).unwrap();
            upstream.keep_journal(&journal);
            let count = take(&upstream, &steps)?;
            let chronicle = Chronicle::read(journal.folder()).unwrap();
            let replayed = again(&chronicle);
            prop_assert!(replayed.first.is_none(), "{:?}", replayed.first);
            prop_assert_eq!(replayed.same, count);
        }
    }
}
