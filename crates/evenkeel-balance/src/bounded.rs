//! Consistent hashing with bounded loads: how many each member may hold at this moment.
//! A bound is a wish and not a wall: when every member left is over it, the bound yields.
//!
//! Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016
//! (arXiv:1608.01350). With a factor `c`, a member may hold
//! `ceil(c * (total + 1) * weight / total weight)`, counting the one about to be placed. As `c`
//! is at least 1, these add up to at least `total + 1`: there is always somebody within bound.

use crate::Loads;
use crate::search::Candidate;

/// The factor, and what it is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    factor: f64,
    total_weight: u64,
}

impl Bound {
    /// A factor below 1, or not a number, counts as 1.
    pub(crate) fn new(factor: f64, candidates: &[Candidate]) -> Bound {
        let total_weight = candidates.iter().map(|c| u64::from(c.weight)).sum();
        Bound { factor: factor.max(1.0), total_weight }
    }

    /// The bound for one pick, at the loads of the moment.
    pub(crate) fn limit(&self, candidates: &[Candidate], loads: &impl Loads) -> Limit {
        let total = loads
            .total_open()
            .unwrap_or_else(|| candidates.iter().map(|c| u64::from(loads.open(c.index))).sum());
        Limit { per_weight: self.factor * (total as f64 + 1.0) / (self.total_weight.max(1) as f64) }
    }
}

/// How many may be open, by weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    per_weight: f64,
}

impl Limit {
    /// How many a member of this weight may hold, counting the one about to be placed.
    pub(crate) fn of(&self, weight: u32) -> u64 {
        // What is a whole number but for the error of floating point stays that number.
        (self.per_weight * f64::from(weight) - 1e-9).ceil() as u64
    }
}
