//! Maglev hashing: members take slots of a table by turns, each in an order of its own; a key is a
//! slot. A pick is one look-up, shares are even to within a turn, and a leaving member moves few
//! keys beside its own.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4.
//! Weights as in Envoy: in each turn a member is passed by until it is owed a slot. The result
//! rests on names and weights only, never on the order in which members were given.

use crate::Loads;
use crate::hash::{draw, mix, scale};
use crate::rendezvous;
use crate::search::{Candidate, Search, Witness};

/// The table has the smallest of these primes that is at least 100 times the members.
///
/// More than 167,772 members have to do with less than 100 slots each.
const SIZES: [u32; 5] = [65_537, 262_147, 1_048_583, 4_194_319, 16_777_259];

/// How many slots a pick tries before it looks at each member once instead.
const PROBES_MAX: u64 = 64;

/// The table: a member's position in every slot.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    owners: Vec<u32>,
}

/// One member's way through the slots.
struct Claimant {
    position: u32,
    weight: u64,
    next: u32,
    skip: u32,
    taken: u64,
}

impl Slots {
    pub(crate) fn build(candidates: &[Candidate]) -> Slots {
        Slots::of_size(candidates, size_for(candidates.len()))
    }

    fn of_size(candidates: &[Candidate], size: u32) -> Slots {
        let mut claimants = claimants(candidates, size);
        let heaviest = claimants.iter().map(|claimant| claimant.weight).max().unwrap_or(0);
        let mut left = if claimants.is_empty() { 0 } else { size as usize };
        let mut owners = vec![u32::MAX; left];
        let mut turn = 0;
        while left > 0 {
            turn += 1;
            for claimant in &mut claimants {
                // The heaviest takes one slot a turn, the others their part of one.
                if claimant.taken * heaviest >= turn * claimant.weight {
                    continue;
                }
                claimant.claim(&mut owners);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Slots { owners }
    }

    /// The member of the key's slot; if it cannot take it, that of another slot, always the same
    /// ones in the same order for a key.
    pub(crate) fn pick<L: Loads, W: Witness>(&self, search: &mut Search<L, W>) -> Option<usize> {
        let key = search.ask.key;
        for probe in 0..PROBES_MAX {
            let slot = scale(draw(key, probe), self.owners.len() as u64);
            let position = *self.owners.get(slot as usize)? as usize;
            if search.takes(position) {
                return Some(position);
            }
        }
        rendezvous::pick(search, key)
    }
}

impl Claimant {
    /// Takes the next slot in its own order that is still free. There is one: the size is prime, so
    /// the order comes by every slot.
    fn claim(&mut self, owners: &mut [u32]) {
        let size = owners.len() as u32;
        loop {
            let slot = self.next as usize;
            self.next = (self.next + self.skip) % size;
            if owners[slot] == u32::MAX {
                owners[slot] = self.position;
                self.taken += 1;
                return;
            }
        }
    }
}

fn size_for(members: usize) -> u32 {
    let wanted = members.saturating_mul(100);
    SIZES.into_iter().find(|&size| size as usize >= wanted).unwrap_or(SIZES[SIZES.len() - 1])
}

/// By name, so that the order of the config does not matter.
fn claimants(candidates: &[Candidate], size: u32) -> Vec<Claimant> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&position| candidates[position].name_hash);
    let claimant = |position: usize| {
        let Candidate { weight, name_hash, .. } = candidates[position];
        Claimant {
            position: position as u32,
            weight: u64::from(weight),
            next: scale(mix(name_hash), u64::from(size)) as u32,
            skip: scale(mix(!name_hash), u64::from(size - 1)) as u32 + 1,
            taken: 0,
        }
    };
    order.into_iter().map(claimant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |(number, &weight): (usize, &u32)| Candidate {
            index: number as u32,
            weight,
            name_hash: crate::hash_bytes(format!("10.0.0.{number}:80").as_bytes()),
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn shares(slots: &Slots, members: usize) -> Vec<usize> {
        let mut shares = vec![0; members];
        for &owner in &slots.owners {
            shares[owner as usize] += 1;
        }
        shares
    }

    #[test]
    fn every_table_size_is_prime() {
        for size in SIZES {
            let root = f64::from(size).sqrt() as u32 + 1;
            assert!((2..=root).all(|divisor| size % divisor != 0), "{size}");
        }
        assert_eq!(size_for(3), 65_537);
        assert_eq!(size_for(10_000), 1_048_583);
        assert_eq!(size_for(usize::MAX), 16_777_259);
    }

    #[test]
    fn equal_members_differ_by_one_slot_at_most() {
        let shares = shares(&Slots::build(&candidates(&[1; 7])), 7);
        assert_eq!(shares.iter().max().unwrap() - shares.iter().min().unwrap(), 1);
    }

    #[test]
    fn slots_follow_weights() {
        let shares = shares(&Slots::build(&candidates(&[1, 2, 5])), 3);
        for (share, weight) in shares.iter().zip([1.0, 2.0, 5.0]) {
            assert!((*share as f64 - 65_537.0 * weight / 8.0).abs() < 8.0, "{shares:?}");
        }
    }

    #[test]
    fn the_lightest_member_still_has_a_slot() {
        let shares = shares(&Slots::build(&candidates(&[u32::MAX, 1])), 2);
        assert_eq!(shares[1], 1);
    }

    #[test]
    fn no_members_take_no_slots() {
        assert!(Slots::build(&[]).owners.is_empty());
    }
}
