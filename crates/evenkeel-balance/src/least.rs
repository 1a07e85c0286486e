//! What a member costs, by its connections or by its latency, and the cheapest of them all.
//! Ties go round by ticket, so that equals share and the first in the list is not always it.

use crate::Loads;
use crate::search::{Candidate, Look, Search, Witness};
use crate::trace::Outcome;

/// Up to so many members `least-latency` looks at all of them; beyond, at two drawn by chance.
pub(crate) const SCAN_ALL: usize = 4;

/// What a member without a measurement costs while its first request is under way, in seconds:
/// more than any latency, so that nobody else is sent there before it answered.
const UNMEASURED: f64 = 1e9;

/// What choosing a member costs: never NaN.
pub(crate) type Cost<L> = fn(&L, &Candidate) -> f64;

/// Connections, counting the one to be placed, by weight.
pub(crate) fn busyness<L: Loads>(loads: &L, candidate: &Candidate) -> f64 {
    (f64::from(loads.open(candidate.index)) + 1.0) / f64::from(candidate.weight)
}

/// Latency times connections, by weight: how long the next one waits.
///
/// A member without a measurement costs nothing when idle, and more than anybody when not; so it
/// is asked once, soon, and then waited for (Finagle's `PeakEwma` does the same).
pub(crate) fn slowness<L: Loads>(loads: &L, candidate: &Candidate) -> f64 {
    let latency = loads.latency(candidate.index);
    if latency > 0.0 {
        latency.min(UNMEASURED) * busyness(loads, candidate)
    } else if loads.open(candidate.index) == 0 {
        0.0
    } else {
        UNMEASURED * busyness(loads, candidate)
    }
}

/// The cheapest free member, in O(n).
///
/// First the lowest cost and how many have it, then the one among them whose turn it is. Loads may
/// change in between: then it is the first that the first look found.
pub(crate) fn pick<L: Loads, W: Witness>(
    search: &mut Search<L, W>,
    cost: Cost<L>,
) -> Option<usize> {
    let mut best = None;
    let mut ties = 0u64;
    for position in 0..search.candidates.len() {
        if !search.takes(position) {
            continue;
        }
        let candidate_cost = cost(search.loads, &search.candidates[position]);
        match best {
            Some((_, lowest)) if candidate_cost > lowest => {}
            Some((_, lowest)) if candidate_cost == lowest => ties += 1,
            _ => {
                best = Some((position, candidate_cost));
                ties = 1;
            }
        }
    }
    let (first, lowest) = best?;
    let turn = search.ask.ticket % ties;
    // Alone at the top, or the first of equals: no need to look again.
    let won = if turn == 0 { Some(first) } else { tied(search, cost, lowest, turn) };
    let won = won.unwrap_or(first);
    if search.listened_to() {
        note_losers(search, cost, won, lowest);
    }
    Some(won)
}

/// The free member of lowest cost whose turn it is, counted from 0.
fn tied<L: Loads, W: Witness>(
    search: &Search<L, W>,
    cost: Cost<L>,
    lowest: f64,
    turn: u64,
) -> Option<usize> {
    (0..search.candidates.len())
        .filter(|&position| {
            cost(search.loads, &search.candidates[position]) <= lowest
                && search.look(position) == Look::Free
        })
        .nth(turn as usize)
}

fn note_losers<L: Loads, W: Witness>(
    search: &mut Search<L, W>,
    cost: Cost<L>,
    won: usize,
    lowest: f64,
) {
    for position in 0..search.candidates.len() {
        if position != won && search.look(position) == Look::Free {
            let lost_cost = cost(search.loads, &search.candidates[position]);
            note_loser(search, position, lost_cost, won, lowest);
        }
    }
}

/// Tells the witness about a member that could have taken it.
pub(crate) fn note_loser<L: Loads, W: Witness>(
    search: &mut Search<L, W>,
    lost: usize,
    cost: f64,
    won: usize,
    than_cost: f64,
) {
    if cost == than_cost {
        search.note(lost, Outcome::Tied { cost });
    } else {
        let than = search.candidates[won].index;
        search.note(lost, Outcome::LessLoaded { cost, than, than_cost });
    }
}
