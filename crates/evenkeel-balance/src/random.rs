//! A draw by weight from running sums, in O(log n), and the `random` algorithm on top of it.
//! A member that cannot take it is drawn again, which leaves the others their shares exactly.

use crate::Loads;
use crate::hash::{draw, mix, scale};
use crate::rendezvous;
use crate::search::{Candidate, Search, Witness};

/// How often it draws before it looks at every member instead.
pub(crate) const DRAWS_MAX: u64 = 16;

/// The running sums of the weights.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    /// At each position the weight of the members up to and including it.
    sums: Vec<u64>,
}

impl Draw {
    pub(crate) fn build(candidates: &[Candidate]) -> Draw {
        let mut total = 0;
        let sum_up = |candidate: &Candidate| {
            total += u64::from(candidate.weight);
            total
        };
        Draw { sums: candidates.iter().map(sum_up).collect() }
    }

    /// A free member, each with a chance in proportion to its weight among the free ones.
    pub(crate) fn pick<L: Loads, W: Witness>(&self, search: &mut Search<L, W>) -> Option<usize> {
        let seed = search.ask.seed;
        for turn in 0..DRAWS_MAX {
            let position = self.at(draw(seed, turn))?;
            if search.takes(position) {
                return Some(position);
            }
        }
        rendezvous::pick(search, mix(seed))
    }

    /// The member that a random number falls on.
    pub(crate) fn at(&self, random: u64) -> Option<usize> {
        let point = scale(random, *self.sums.last()?);
        Some(self.sums.partition_point(|&sum| sum <= point))
    }

    /// The same as if one member were not there; `None` if it is the only one.
    pub(crate) fn at_other_than(&self, left_out: usize, random: u64) -> Option<usize> {
        let before = if left_out == 0 { 0 } else { self.sums[left_out - 1] };
        let width = self.sums[left_out] - before;
        let rest = *self.sums.last()? - width;
        if rest == 0 {
            return None;
        }
        let point = scale(random, rest);
        let point = if point < before { point } else { point + width };
        Some(self.sums.partition_point(|&sum| sum <= point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw_of(weights: &[u32]) -> Draw {
        let candidate = |&weight: &u32| Candidate { index: 0, weight, name_hash: 0 };
        Draw::build(&weights.iter().map(candidate).collect::<Vec<_>>())
    }

    #[test]
    fn every_point_of_the_sum_belongs_to_its_member() {
        let sums = draw_of(&[1, 2, 1]);
        let quarter = 1u64 << 62;
        assert_eq!(sums.at(0), Some(0));
        assert_eq!(sums.at(quarter), Some(1));
        assert_eq!(sums.at(2 * quarter), Some(1));
        assert_eq!(sums.at(3 * quarter), Some(2));
        assert_eq!(sums.at(u64::MAX), Some(2));
    }

    #[test]
    fn the_second_draw_never_repeats_the_first() {
        let sums = draw_of(&[1_000, 1, 1]);
        for turn in 0..1_000 {
            for first in 0..3 {
                assert_ne!(sums.at_other_than(first, draw(7, turn)), Some(first));
            }
        }
        assert_eq!(draw_of(&[5]).at_other_than(0, 9), None);
    }
}
