//! Smooth weighted round-robin, worked out ahead: a cycle of entries that the ticket indexes.
//! The order is that of nginx (5, 1, 1 gives a a b a c a a), so that a heavy member's turns are
//! spread over the cycle and not bunched.
//!
//! nginx adds each member's weight to its credit at every step, takes the one with most credit and
//! charges it the total: O(n) a step. Members of equal weight always stand in list order behind one
//! another, so only one for each distinct weight has to be compared here, with the same result.

use crate::Loads;
use crate::hash::mix;
use crate::rendezvous;
use crate::search::{Candidate, Search, Witness};

/// A cycle is at most this long, unless there are more members than this.
const ENTRIES_MAX: usize = 65_536;

/// How many entries a pick walks before it looks at each member once instead.
const WALK_MAX: u64 = 64;

/// The positions of the members, turn by turn.
#[derive(Clone, Debug)]
pub(crate) struct Cycle {
    turns: Vec<u32>,
}

/// The members of one weight, and how far the cycle has come with them.
struct Peers {
    weight: i64,
    positions: Vec<u32>,
    next: usize,
    /// Of those not yet served in this round: weight for each step, less the total for each turn.
    credit: i64,
}

impl Cycle {
    pub(crate) fn build(candidates: &[Candidate]) -> Cycle {
        let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
        Cycle { turns: interleave(&fit(&weights, ENTRIES_MAX)) }
    }

    /// The member whose turn it is.
    ///
    /// If it cannot take it, the walk goes on from the following entry in the first cycle, the one
    /// after that in the second, and so on: else its whole share would fall on one neighbour.
    pub(crate) fn pick<L: Loads, W: Witness>(&self, search: &mut Search<L, W>) -> Option<usize> {
        let len = self.turns.len() as u64;
        let (cycle, turn) = (search.ask.ticket.checked_div(len)?, search.ask.ticket % len);
        let position = self.turns[turn as usize] as usize;
        if search.takes(position) {
            return Some(position);
        }
        let onwards = turn + 1 + cycle.checked_rem(len - 1).unwrap_or(0);
        for step in 0..WALK_MAX.min(len) {
            let position = self.turns[((onwards + step) % len) as usize] as usize;
            if search.takes(position) {
                return Some(position);
            }
        }
        rendezvous::pick(search, mix(search.ask.ticket))
    }
}

/// Reduces weights so that they add up to a cycle of at most `limit` entries.
///
/// Dividing by the greatest number that divides them all is exact. Where that is not enough, weights
/// are scaled and rounded: each share is then off by at most half an entry, but nobody has less than one.
fn fit(weights: &[u32], limit: usize) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, weight)).max(1);
    let total: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    if total <= limit as u64 {
        return weights.iter().map(|weight| weight / divisor).collect();
    }
    let spare = limit.saturating_sub(weights.len()) as u64;
    let scaled = |weight: u32| {
        let entries = (u64::from(weight / divisor) * spare + total / 2) / total;
        entries.max(1) as u32
    };
    weights.iter().map(|&weight| scaled(weight)).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// nginx's order for one full cycle.
fn interleave(weights: &[u32]) -> Vec<u32> {
    let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut peers = peers(weights);
    let mut turns = Vec::with_capacity(total as usize);
    for _ in 0..total {
        for group in &mut peers {
            group.credit += group.weight;
        }
        // Most credit; among equals the first in the list.
        let ahead = peers.iter_mut().max_by_key(|group| (group.credit, -group.front()));
        let Some(group) = ahead else { break };
        turns.push(group.positions[group.next]);
        group.next += 1;
        if group.next == group.positions.len() {
            group.next = 0;
            group.credit -= total;
        }
    }
    turns
}

fn peers(weights: &[u32]) -> Vec<Peers> {
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_by_key(|&position| (weights[position as usize], position));
    order
        .chunk_by(|&a, &b| weights[a as usize] == weights[b as usize])
        .map(|positions| Peers {
            weight: i64::from(weights[positions[0] as usize]),
            positions: positions.to_vec(),
            next: 0,
            credit: 0,
        })
        .collect()
}

impl Peers {
    fn front(&self) -> i64 {
        i64::from(self.positions[self.next])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plain form, to compare with.
    fn as_nginx_does(weights: &[u32]) -> Vec<u32> {
        let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut credit = vec![0i64; weights.len()];
        let mut turns = Vec::new();
        for _ in 0..total {
            let mut best = 0;
            for position in 0..weights.len() {
                credit[position] += i64::from(weights[position]);
                if credit[position] > credit[best] {
                    best = position;
                }
            }
            credit[best] -= total;
            turns.push(best as u32);
        }
        turns
    }

    #[test]
    fn a_heavy_members_turns_are_spread_out() {
        assert_eq!(interleave(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(interleave(&[1, 1, 1]), [0, 1, 2]);
    }

    #[test]
    fn weights_are_reduced_before_the_cycle_is_made() {
        assert_eq!(fit(&[500, 100, 100], ENTRIES_MAX), [5, 1, 1]);
        assert_eq!(fit(&[], ENTRIES_MAX), [0u32; 0]);
    }

    #[test]
    fn a_cycle_too_long_is_scaled_and_nobody_is_left_out() {
        let weights = [u32::MAX, 1, u32::MAX / 3];
        let fitted = fit(&weights, ENTRIES_MAX);
        assert_eq!(fitted[1], 1);
        assert!(fitted.iter().sum::<u32>() as usize <= ENTRIES_MAX);
        assert!((f64::from(fitted[0]) / f64::from(fitted[2]) - 3.0).abs() < 0.001);
        let many = fit(&vec![7_919; ENTRIES_MAX + 5], ENTRIES_MAX);
        assert!(many.iter().all(|&entries| entries == 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_short_way_gives_the_order_of_nginx(
            weights in proptest::collection::vec(1u32..12, 1..20),
        ) {
            prop_assert_eq!(interleave(&weights), as_nginx_does(&weights));
        }

        #[test]
        fn a_scaled_share_is_off_by_at_most_half_an_entry_or_is_one(
            weights in proptest::collection::vec(1u32..1_000_000, 2..50),
        ) {
            let limit = 1_000;
            let fitted = fit(&weights, limit);
            prop_assert!(fitted.iter().sum::<u32>() as usize <= limit);
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            if total > limit as u64 {
                let spare = (limit - weights.len()) as f64;
                for (&weight, &entries) in weights.iter().zip(&fitted) {
                    let ideal = f64::from(weight) * spare / total as f64;
                    prop_assert!(entries == 1 || (f64::from(entries) - ideal).abs() < 0.51);
                }
            }
        }
    }
}
