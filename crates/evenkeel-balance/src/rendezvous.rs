//! Highest random weight: every member gets a score from the key and its name; the highest wins.
//! Exact in weights and in disruption, at O(n); and the last resort of every other algorithm, once
//! most members cannot take it, as it leaves the rest their shares.
//!
//! Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998. A weight `w`
//! turns an even number `u` between 0 and 1 into the score `-w / ln(u)`, with which a member wins
//! exactly `w` of the total (Schindelhauer and Schomaker, SPAA 2005, logarithmic method).

use crate::Loads;
use crate::hash::mix;
use crate::search::{Candidate, Look, Search, Witness};

/// The free member with the highest score; if all that could take it are over their bound, then
/// the highest of those.
pub(crate) fn pick<L: Loads, W: Witness>(search: &mut Search<L, W>, key: u64) -> Option<usize> {
    pick_other_than(search, key, None)
}

/// The same as if one member were not there.
pub(crate) fn pick_other_than<L: Loads, W: Witness>(
    search: &mut Search<L, W>,
    key: u64,
    left_out: Option<usize>,
) -> Option<usize> {
    let key = mix(key);
    let mut free = None;
    let mut over = None;
    for position in (0..search.candidates.len()).filter(|&position| Some(position) != left_out) {
        let candidate = &search.candidates[position];
        let even = even(key, candidate);
        if free.is_some_and(|(_, highest)| cannot_reach(highest, even, candidate)) {
            continue;
        }
        let score = score(even, candidate);
        match search.look(position) {
            Look::Free => raise(&mut free, position, score),
            Look::OverBound { .. } => raise(&mut over, position, score),
            Look::Full | Look::Tried => {}
        }
    }
    let won = free.or(over);
    if search.listened_to() {
        // With nobody free, everybody was ahead, also the one that is taken beyond its bound.
        note_higher(search, key, free.map_or(0.0, |(_, score)| score));
    }
    won.map(|(position, _)| position)
}

fn raise(best: &mut Option<(usize, f64)>, position: usize, score: f64) {
    if best.is_none_or(|(_, highest)| score > highest) {
        *best = Some((position, score));
    }
}

/// The member's even number for a key: in the middle of its 2^-52, so neither 0 nor 1.
fn even(key: u64, candidate: &Candidate) -> f64 {
    let bits = mix(key ^ candidate.name_hash) >> 12;
    (bits as f64 + 0.5) / (1u64 << 52) as f64
}

fn score(even: f64, candidate: &Candidate) -> f64 {
    -f64::from(candidate.weight) / even.ln()
}

/// Whether the score is surely not above the highest, told without the price of a logarithm: as
/// `-ln(u) >= 1 - u`, it is at most `w / (1 - u)`.
fn cannot_reach(highest: f64, even: f64, candidate: &Candidate) -> bool {
    f64::from(candidate.weight) <= highest * (1.0 - even)
}

/// Tells the witness, from the highest score down, of those that were ahead but could not take it.
fn note_higher<L: Loads, W: Witness>(search: &mut Search<L, W>, key: u64, won: f64) {
    let score_at = |position: &usize| {
        let candidate = &search.candidates[*position];
        score(even(key, candidate), candidate)
    };
    let mut ahead: Vec<usize> =
        (0..search.candidates.len()).filter(|position| score_at(position) > won).collect();
    ahead.sort_by(|a, b| score_at(b).total_cmp(&score_at(a)));
    for position in ahead {
        let look = search.look(position);
        search.note_look(position, look);
    }
}
