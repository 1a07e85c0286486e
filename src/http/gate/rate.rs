//! How often each client may come: a table of allowances (GCRA), one number for each key, of a size that is fixed at the
//! start. Memory never grows with the number of keys; when the table is full, the fullest allowance is forgotten, which
//! forgives the least. It reads no clock: `now` is an argument, so that tests run on a time of their own.

use std::cmp::Reverse;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Shards with a lock each, held for a few instructions.
const SHARDS_MAX: usize = 64;

/// Places that are looked through for one key: a few lines of the processor's cache.
const WAYS: usize = 16;

/// How many requests, in which time, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) requests: u32,
    pub(crate) per: Duration,
    pub(crate) burst: u32,
}

/// One key: a hash of what it stands for, and the time at which its allowance is full again, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    full_at: u64,
}

/// The allowances of all keys, shared by all workers.
#[derive(Debug)]
pub(crate) struct RateTable {
    /// What one request uses up.
    cost: u64,
    /// What may be used up in advance.
    most: u64,
    shards: Vec<Mutex<Box<[[Slot; WAYS]]>>>,
    // Random, so that nobody can choose keys that push each other out.
    hasher: RandomState,
}

impl RateTable {
    /// A table that remembers `keys` keys, and a few more.
    pub(crate) fn new(rate: Rate, keys: u32) -> RateTable {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let cost = (nanos(rate.per) / u64::from(rate.requests.max(1))).max(1);
        // Keys do not spread evenly: a quarter more places keep neighbours from pushing each other out.
        let sets = (keys as usize).saturating_mul(5).div_ceil(4 * WAYS).max(1);
        // So many sets in each that they fill alike.
        let shards = (sets / 16).clamp(1, SHARDS_MAX);
        let shard = || Mutex::new(vec![[Slot::default(); WAYS]; sets.div_ceil(shards)].into());
        RateTable {
            cost,
            most: cost.saturating_mul(u64::from(rate.burst.max(1))),
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Lets one request of a key through, or says how long to wait for the next one. `now` counts from any fixed moment
    /// on and may stand still, but not go back by much.
    pub(crate) fn admit(&self, key: impl Hash, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let hash = self.hasher.hash_one(key);
        let count = self.shards.len();
        let Some(shard) = self.shards.get(hash as usize % count) else { return Ok(()) };
        let mut sets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // Two places where a key may stand; the emptier one is taken, so that both fill evenly.
        let among = sets.len() as u64;
        let (one, other) = ((hash >> 8) % among, (hash >> 36) % among);
        let key = hash.max(1);
        let slot = find(&mut sets, [one as usize, other as usize], key, now);
        if slot.key != key {
            *slot = Slot { key, full_at: now };
        }
        let full_at = slot.full_at.max(now).saturating_add(self.cost);
        match full_at.checked_sub(now.saturating_add(self.most)) {
            None | Some(0) => {
                slot.full_at = full_at;
                Ok(())
            }
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    /// How many keys are remembered.
    #[cfg(test)]
    fn keys(&self) -> usize {
        let of = |sets: &[[Slot; WAYS]]| sets.iter().flatten().filter(|slot| slot.key != 0).count();
        self.shards.iter().map(|shard| of(&shard.lock().unwrap())).sum()
    }

    #[cfg(test)]
    fn places(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len() * WAYS).sum()
    }
}

/// The place of a key. One that is not there yet gets that of the fullest allowance, in whichever set has more to
/// give away: an allowance that is full again says no more than an empty place.
fn find(sets: &mut [[Slot; WAYS]], candidates: [usize; 2], key: u64, now: u64) -> &mut Slot {
    let (mut at, mut best) = ((candidates[0], 0), (0, Reverse(u64::MAX)));
    for set in candidates {
        let is_full = |slot: &&Slot| slot.full_at <= now;
        let full = sets[set].iter().filter(is_full).count();
        for (way, slot) in sets[set].iter().enumerate() {
            if slot.key == key {
                return &mut sets[set][way];
            }
            if (full, Reverse(slot.full_at)) > best {
                (at, best) = ((set, way), (full, Reverse(slot.full_at)));
            }
        }
    }
    &mut sets[at.0][at.1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(requests: u32, per: Duration, burst: u32, keys: u32) -> RateTable {
        RateTable::new(Rate { requests, per, burst }, keys)
    }

    fn admitted(table: &RateTable, key: u32, now: Duration) -> usize {
        (0..1000).filter(|_| table.admit(key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate() {
        let table = table(10, Duration::from_secs(1), 5, 1000);
        let at = Duration::from_millis;
        assert_eq!(admitted(&table, 1, at(0)), 5);
        assert_eq!(table.admit(1, at(0)), Err(at(100)));
        assert_eq!(table.admit(1, at(70)), Err(at(30)));
        assert_eq!(admitted(&table, 1, at(100)), 1);
        assert_eq!(admitted(&table, 1, at(400)), 3);
        // Another key has its own, and a rest gives back no more than the burst.
        assert_eq!(admitted(&table, 2, at(400)), 5);
        assert_eq!(admitted(&table, 1, at(1_000_000)), 5);
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_keys() {
        let table = table(1, Duration::from_secs(60), 1, 1000);
        let places = table.places();
        assert!((1000..=2000).contains(&places), "{places}");
        for key in 0..101_000_u32 {
            assert_eq!(table.admit(key, Duration::ZERO), Ok(()));
        }
        assert!(table.keys() <= places && table.places() == places, "{}", table.keys());
    }

    #[test]
    fn as_many_keys_as_configured_are_remembered() {
        let table = table(1, Duration::from_secs(60), 1, 10_000);
        (0..10_000_u32).for_each(|key| assert_eq!(table.admit(key, Duration::ZERO), Ok(())));
        let is_known = |key: &u32| table.admit(*key, Duration::ZERO).is_err();
        let remembered = (0..10_000_u32).filter(is_known).count();
        assert!(remembered > 9_950, "{remembered}");
    }

    #[test]
    fn a_flood_of_keys_does_not_forgive_the_one_that_used_its_burst_up() {
        let table = table(1, Duration::from_secs(60), 10, 1000);
        assert_eq!(admitted(&table, u32::MAX, Duration::ZERO), 10);
        for key in 0..100_000_u32 {
            let _ = table.admit(key, Duration::ZERO);
        }
        assert!(table.admit(u32::MAX, Duration::ZERO).is_err());
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let century = Duration::from_secs(100 * 365 * 86_400);
        let table = table(1, century, u32::MAX, 1);
        assert_eq!(table.admit(1, century * 4), Ok(()));
        assert_eq!(table.admit(1, Duration::MAX), Ok(()));
    }

    proptest! {
        /// Held against a bucket of tokens that is kept in the plain way.
        #[test]
        fn it_lets_through_what_a_bucket_of_tokens_would(
            requests in 1..50_u32,
            burst in 1..50_u32,
            steps in prop::collection::vec((0..3_usize, 0..400_u64), 1..300),
        ) {
            let table = table(requests, Duration::from_secs(1), burst, 1000);
            let cost = 1_000_000_000 / u64::from(requests);
            let (mut now, full) = (0, cost * u64::from(burst));
            let mut buckets = [(full, 0_u64); 3];
            for (key, pause) in steps {
                now += pause * 1_000_000;
                let (tokens, since) = &mut buckets[key];
                *tokens = full.min(*tokens + (now - *since));
                *since = now;
                let is_let = table.admit(key, Duration::from_nanos(now));
                prop_assert_eq!(is_let.is_ok(), *tokens >= cost);
                match is_let {
                    Ok(()) => *tokens -= cost,
                    Err(wait) => prop_assert_eq!(wait, Duration::from_nanos(cost - *tokens)),
                }
            }
        }
    }
}
