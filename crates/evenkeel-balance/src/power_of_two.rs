//! The power of two choices: draw two different members by weight, take the cheaper one.
//! Nearly as even as asking everybody, in constant time and without everybody running to the same.
//!
//! Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001. What a member costs
//! is an argument: connections for `power-of-two`, latency as well for `least-latency`.

use crate::Loads;
use crate::hash::{draw, mix};
use crate::least::{Cost, note_loser};
use crate::random::{DRAWS_MAX, Draw};
use crate::rendezvous;
use crate::search::{Search, Witness};

/// Of two free members the cheaper one; the only one if there is just one.
pub(crate) fn pick<L: Loads, W: Witness>(
    chances: &Draw,
    search: &mut Search<L, W>,
    cost: Cost<L>,
) -> Option<usize> {
    let seed = search.ask.seed;
    let first = chances.pick(search)?;
    let Some(second) = another(chances, search, first, mix(seed ^ 0x5EC0)) else {
        return Some(first);
    };
    let first_cost = cost(search.loads, &search.candidates[first]);
    let second_cost = cost(search.loads, &search.candidates[second]);
    // Of equals the first drawn, which is by weight and chance.
    let (won, won_cost, lost, lost_cost) = if second_cost < first_cost {
        (second, second_cost, first, first_cost)
    } else {
        (first, first_cost, second, second_cost)
    };
    note_loser(search, lost, lost_cost, won, won_cost);
    Some(won)
}

/// A free member different from the first, by weight.
fn another<L: Loads, W: Witness>(
    chances: &Draw,
    search: &mut Search<L, W>,
    first: usize,
    seed: u64,
) -> Option<usize> {
    for turn in 0..DRAWS_MAX {
        let position = chances.at_other_than(first, draw(seed, turn))?;
        if search.takes(position) {
            return Some(position);
        }
    }
    rendezvous::pick_other_than(search, mix(seed), Some(first))
}
