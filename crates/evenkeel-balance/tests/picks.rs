//! What every algorithm promises: weights are honoured, a pick never goes to a member that was
//! tried or is full, finds one if there is one, and its explanation says the same.

use std::collections::HashSet;

use crate::group::{Group, every_algorithm, members};
use evenkeel_balance::{Algorithm, Ask, HashOn, Outcome, Table};
use proptest::prelude::*;

fn ask(number: u64) -> Ask<'static> {
    let scattered = evenkeel_balance::hash_bytes(&number.to_le_bytes());
    Ask { key: scattered, ticket: number, seed: scattered, ..Ask::default() }
}

/// How often each member is picked, with nothing ever open.
fn picks(table: &Table, group: &Group, count: u64) -> Vec<u64> {
    let mut picks = vec![0; group.open.len()];
    for number in 0..count {
        picks[table.pick(group, &ask(number)).unwrap() as usize] += 1;
    }
    picks
}

#[test]
fn round_robin_goes_round_and_spreads_a_heavy_members_turns() {
    let names = |weights: &[u32]| -> String {
        let table = Table::build(&Algorithm::RoundRobin, &members(weights));
        let group = Group::idle(weights.len());
        (0..7)
            .map(|number| ["a", "b", "c"][table.pick(&group, &ask(number)).unwrap() as usize])
            .collect()
    };
    assert_eq!(names(&[1, 1, 1]), "abcabca");
    assert_eq!(names(&[5, 1, 1]), "aabacaa");
}

#[test]
fn a_full_members_share_spreads_evenly() {
    let mut group = Group::idle(5);
    group.full[2] = true;
    for algorithm in every_algorithm() {
        if algorithm == Algorithm::First {
            continue;
        }
        let table = Table::build(&algorithm, &members(&[1; 5]));
        let picks = picks(&table, &group, 20_000);
        for (member, &count) in picks.iter().enumerate() {
            let fair = if member == 2 { 0.0 } else { 5_000.0 };
            // A ring is only as even as its points: 160 of them give about 8 %.
            assert!((count as f64 - fair).abs() <= fair * 0.25, "{algorithm:?} {picks:?}");
        }
        let even = matches!(algorithm, Algorithm::RoundRobin | Algorithm::LeastConnections);
        assert!(!even || picks.iter().all(|&n| n == 0 || n == 5_000), "{algorithm:?} {picks:?}");
    }
}

#[test]
fn least_connections_goes_to_the_least_loaded_for_its_weight() {
    let table = Table::build(&Algorithm::LeastConnections, &members(&[1, 4, 1]));
    let group = Group::with_open(&[2, 8, 3]);
    assert_eq!(table.pick(&group, &ask(0)), Some(1));
}

#[test]
fn equals_take_turns_at_least_connections() {
    let table = Table::build(&Algorithm::LeastConnections, &members(&[1; 4]));
    let group = Group::with_open(&[9, 0, 0, 0]);
    let turns: Vec<u32> = (0..6).map(|number| table.pick(&group, &ask(number)).unwrap()).collect();
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn of_two_members_power_of_two_takes_the_less_loaded() {
    let table = Table::build(&Algorithm::PowerOfTwo, &members(&[1, 1]));
    let group = Group::with_open(&[5, 4]);
    assert!((0..100).all(|number| table.pick(&group, &ask(number)) == Some(1)));
}

#[test]
fn the_most_loaded_of_many_is_never_chosen_by_power_of_two() {
    let table = Table::build(&Algorithm::PowerOfTwo, &members(&[1; 10]));
    let group = Group::with_open(&[0, 0, 0, 0, 7, 0, 0, 0, 0, 0]);
    assert_eq!(picks(&table, &group, 5_000)[4], 0);
}

#[test]
fn a_slow_member_gets_less_and_a_new_one_is_asked_just_once() {
    for count in [3, 8] {
        let table = Table::build(&Algorithm::LeastLatency, &members(&vec![1; count]));
        let mut group = Group::idle(count);
        group.latency = vec![0.010; count];
        group.latency[1] = 0.500;
        assert_eq!(picks(&table, &group, 1_000)[1], 0);

        group.latency[1] = 0.0;
        let first = picks(&table, &group, 1_000)[1];
        assert!(first > 150, "{first} of 1,000 with {count} members");
        group.open[1] = 1;
        assert_eq!(picks(&table, &group, 1_000)[1], 0);
    }
}

#[test]
fn first_fills_in_order() {
    let table = Table::build(&Algorithm::First, &members(&[1, 1, 1]));
    let mut group = Group::idle(3);
    assert_eq!(table.pick(&group, &ask(8)), Some(0));
    group.full[0] = true;
    assert_eq!(table.pick(&group, &ask(9)), Some(1));
}

#[test]
fn a_member_without_weight_is_left_out() {
    for algorithm in every_algorithm() {
        let table = Table::build(&algorithm, &members(&[0, 3, 0]));
        assert_eq!((table.len(), table.is_empty()), (1, false));
        assert_eq!(table.pick(&Group::idle(3), &ask(1)), Some(1), "{algorithm:?}");
        let none = Table::build(&algorithm, &members(&[0, 0]));
        assert_eq!(none.pick(&Group::idle(2), &ask(1)), None, "{algorithm:?}");
        assert_eq!(none.explain(&Group::idle(2), &ask(1)).0, None);
    }
}

#[test]
fn one_free_member_among_thousands_is_found() {
    let count = 3_000;
    let mut group = Group::idle(count);
    group.full = vec![true; count];
    group.full[1_234] = false;
    for algorithm in every_algorithm() {
        let table = Table::build(&algorithm, &members(&vec![1; count]));
        for number in 0..5 {
            assert_eq!(table.pick(&group, &ask(number)), Some(1_234), "{algorithm:?}");
        }
    }
}

#[test]
fn an_explanation_names_each_member_passed_over() {
    let table = Table::build(&Algorithm::First, &members(&[1, 1, 1]));
    let mut group = Group::idle(3);
    group.full[1] = true;
    let (answer, trace) = table.explain(&group, &Ask { tried: &[0], ..Ask::default() });
    assert_eq!(answer, Some(2));
    assert_eq!(trace.to_string(), "0: already tried; 1: full; 2: chosen");

    let table = Table::build(&Algorithm::LeastConnections, &members(&[1, 1, 1]));
    let (_, trace) = table.explain(&Group::with_open(&[1, 0, 0]), &ask(1));
    let expected = "0: 2 is less loaded (1.0000 against 2.0000); 1: as good (1.0000), not its \
                    turn; 2: chosen";
    assert_eq!(trace.to_string(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_pick_is_free_untried_found_if_there_is_one_and_as_explained(
        group in crate::group::any(),
        number: u64,
        tried in proptest::collection::vec(0u32..12, 0..6),
    ) {
        let (weights, group) = group;
        let ask = Ask { tried: &tried, ..ask(number) };
        let eligible: HashSet<u32> = (0..weights.len() as u32)
            .filter(|&index| weights[index as usize] > 0)
            .filter(|&index| !group.full[index as usize] && !tried.contains(&index))
            .collect();
        for algorithm in every_algorithm() {
            let table = Table::build(&algorithm, &members(&weights));
            let answer = table.pick(&group, &ask);
            prop_assert_eq!(answer.is_some(), !eligible.is_empty(), "{:?}", &algorithm);
            prop_assert!(answer.is_none_or(|index| eligible.contains(&index)), "{:?}", &algorithm);

            let (explained, trace) = table.explain(&group, &ask);
            prop_assert_eq!(answer, explained, "{:?}", &algorithm);
            let last = trace.steps.last().filter(|step| step.outcome == Outcome::Chosen);
            prop_assert_eq!(last.map(|step| step.index), answer, "{:?}", &algorithm);
        }
    }

    #[test]
    fn weights_are_honoured(weights in proptest::collection::vec(1u32..10, 2..7), start: u32) {
        let total = f64::from(weights.iter().sum::<u32>());
        let group = Group::idle(weights.len());
        let count = 20_000;
        for (algorithm, tolerance) in [
            (Algorithm::RoundRobin, 0.002),
            (Algorithm::Random, 0.02),
            (hash(HashOn::Maglev), 0.02),
            (hash(HashOn::Rendezvous), 0.02),
            // As even as 40 * n digests by chance are.
            (hash(HashOn::Ring), 0.15),
        ] {
            let table = Table::build(&algorithm, &members(&weights));
            let mut picks = vec![0u32; weights.len()];
            for number in 0..count {
                let number = u64::from(start) + number;
                picks[table.pick(&group, &ask(number)).unwrap() as usize] += 1;
            }
            for (&picked, &weight) in picks.iter().zip(&weights) {
                let off = f64::from(picked) / count as f64 - f64::from(weight) / total;
                prop_assert!(off.abs() < tolerance, "{:?} {:?} {:?}", algorithm, picks, weights);
            }
        }
    }

    #[test]
    fn what_is_open_settles_by_weight(weights in proptest::collection::vec(1u32..10, 2..7)) {
        let total = f64::from(weights.iter().sum::<u32>());
        for algorithm in [
            Algorithm::LeastConnections,
            Algorithm::PowerOfTwo,
            Algorithm::LeastLatency,
        ] {
            let table = Table::build(&algorithm, &members(&weights));
            let mut group = Group::idle(weights.len());
            group.latency = vec![0.01; weights.len()];
            for number in 0..2_000 {
                let picked = table.pick(&group, &ask(number)).unwrap();
                group.open[picked as usize] += 1;
            }
            for (&open, &weight) in group.open.iter().zip(&weights) {
                let off = f64::from(open) / 2_000.0 - f64::from(weight) / total;
                prop_assert!(off.abs() < 0.03, "{:?} {:?} {:?}", algorithm, group.open, weights);
            }
        }
    }
}

fn hash(on: HashOn) -> Algorithm {
    Algorithm::Hash { on, bounded_load: None }
}
