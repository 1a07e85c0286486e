//! A hash ring with its points where ketama puts them, for keys shared with memcached clients.
//! Each member stands on the circle of 2^32 at many points; a key goes to the next point.
//!
//! Compatible with libketama, and with spymemcached at equal weights (both checked by published
//! figures), provided the key is [`ring_key`] and a member's name is the text they hash
//! (`10.0.1.1:11211`). libmemcached's weighted ketama and Finagle follow the same rules, unchecked.
//! nginx's `hash ... consistent` does not: it places points by CRC32.
//!
//! Points: with the share `s` of a member in the total weight of `n`, it has `floor(40 * n * s)`
//! digests of `NAME-0`, `NAME-1`, ..., and each MD5 digest makes four points of four bytes, least
//! byte first. Two deliberate differences: a member of little weight has at least one digest, where
//! libketama gives it none; and the share is exact, where libketama's single precision can cost a
//! member its last digest.

use crate::hash::mix;
use crate::md5;
use crate::rendezvous;
use crate::search::{Search, Witness};
use crate::{Loads, Member};

/// Digests for each member at equal weights; a digest is four points.
const DIGESTS: u64 = 40;

/// How many points a pick passes before it looks at each member once instead.
const WALK_MAX: usize = 256;

/// Where ketama puts a key on the circle: the first four bytes of its MD5, least byte first.
///
/// ```
/// // From libketama's own test program.
/// assert_eq!(evenkeel_balance::ketama_hash(b"26"), 3_979_113_294);
/// ```
pub fn ketama_hash(bytes: &[u8]) -> u32 {
    md5::digest(bytes)[0]
}

/// A key for [`crate::Ask::key`] that a ring treats as ketama would: [`ketama_hash`] as 64 bits.
///
/// A ring looks at the low 32 bits of a key only, so [`crate::hash_bytes`] serves as well when
/// nobody else has to agree, and is faster.
pub fn ring_key(bytes: &[u8]) -> u64 {
    u64::from(ketama_hash(bytes))
}

/// Where a member stands; both together, as a pick needs both and memory is what it waits for.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: u32,
    /// The position of the member.
    owner: u32,
}

/// The circle.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    /// In ascending order.
    points: Vec<Point>,
    /// For each sector of the circle the first point in it or after, to shorten the search: points
    /// are spread evenly, so about two stand in a sector.
    sectors: Vec<u32>,
    /// How far to shift a key right to get its sector.
    sector_shift: u32,
}

impl Points {
    pub(crate) fn build(members: &[&Member]) -> Points {
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let mut by_name: Vec<u32> = (0..members.len() as u32).collect();
        by_name.sort_by_key(|&position| &members[position as usize].name);
        let mut placed = Vec::new();
        for (rank, &position) in by_name.iter().enumerate() {
            let Member { name, weight, .. } = members[position as usize];
            let digests = u128::from(DIGESTS) * members.len() as u128 * u128::from(*weight)
                / u128::from(total.max(1));
            for number in 0..digests.max(1) {
                let digest = md5::digest(format!("{name}-{number}").as_bytes());
                placed.extend(digest.map(|point| u64::from(point) << 32 | rank as u64));
            }
        }
        // Two members may meet at a point: then the lower name has it, whatever order they came in.
        placed.sort_unstable();
        placed.dedup_by_key(|placed| *placed >> 32);
        let owner = |placed: u64| by_name[placed as u32 as usize];
        let point = |&placed: &u64| Point { at: (placed >> 32) as u32, owner: owner(placed) };
        let points: Vec<Point> = placed.iter().map(point).collect();
        let bits = (points.len() / 2).checked_ilog2().unwrap_or(0).clamp(1, 31);
        let sector_shift = u32::BITS - bits;
        let first_in =
            |sector: u32| points.partition_point(|point| point.at >> sector_shift < sector) as u32;
        let sectors = (0..=1u32 << bits).map(first_in).collect();
        Points { points, sectors, sector_shift }
    }

    /// The member at or after the key; if it cannot take it, the next one round the circle.
    pub(crate) fn pick<L: Loads, W: Witness>(&self, search: &mut Search<L, W>) -> Option<usize> {
        let key = search.ask.key as u32;
        let start = self.at_or_after(key);
        let (before, onwards) = self.points.split_at(start);
        for point in onwards.iter().chain(before).take(WALK_MAX) {
            let position = point.owner as usize;
            if search.takes(position) {
                return Some(position);
            }
        }
        rendezvous::pick(search, mix(u64::from(key)))
    }

    /// The first point that is not before the key; the number of points if there is none.
    fn at_or_after(&self, key: u32) -> usize {
        let sector = (key >> self.sector_shift) as usize;
        let (start, end) = (self.sectors[sector] as usize, self.sectors[sector + 1] as usize);
        start + self.points[start..end].partition_point(|point| point.at < key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From libketama's test program, as spymemcached's tests quote it.
    #[test]
    fn keys_land_where_libketama_puts_them() {
        let vectors = [
            ("26", 3_979_113_294),
            ("1404", 2_065_000_984),
            ("4177", 1_125_759_251),
            ("9315", 3_302_915_307),
            ("14745", 2_580_083_742),
            ("105106", 3_986_458_246),
            ("355107", 3_611_074_310),
        ];
        for (key, expected) in vectors {
            assert_eq!(ketama_hash(key.as_bytes()), expected, "{key}");
        }
    }

    /// The servers of libketama's `ketama.servers` file.
    fn libketama_servers() -> Vec<Member> {
        let weights = [600, 300, 200, 350, 1000, 800, 950, 100];
        let member = |(number, weight): (u32, u32)| Member {
            index: number,
            name: format!("10.0.1.{}:11211", number + 1),
            weight,
        };
        (0..).zip(weights).map(member).collect()
    }

    /// The digest of what libketama's `ketama_test.c` prints for the keys 0 to 999, as MediaWiki's
    /// `HashRingTest.php` quotes it: the hash, the point and the server of each.
    #[test]
    fn every_point_and_server_is_the_one_libketama_prints() {
        use std::fmt::Write;

        let servers = libketama_servers();
        let points = Points::build(&servers.iter().collect::<Vec<_>>());
        let mut printed = String::from("\n");
        for key in 0..1_000 {
            let hash = ketama_hash(key.to_string().as_bytes());
            let at = points.at_or_after(hash) % points.points.len();
            let Point { at, owner } = points.points[at];
            writeln!(printed, "{hash} {at} {}", servers[owner as usize].name).unwrap();
        }
        let digest = md5::digest(printed.as_bytes()).map(u32::swap_bytes);
        assert_eq!(digest, [0xd1a4912a, 0x80e4654e, 0xc2e4e462, 0xc8b911c6]);
    }

    #[test]
    fn the_short_search_finds_what_the_long_one_finds() {
        let members: Vec<Member> =
            (0..9).map(|i| Member { index: i, name: format!("m{i}"), weight: 1 + i }).collect();
        for count in 0..members.len() {
            let points = Points::build(&members.iter().take(count).collect::<Vec<_>>());
            let near = points
                .points
                .iter()
                .map(|point| point.at)
                .flat_map(|p| [p.saturating_sub(1), p, p.wrapping_add(1)]);
            for key in near.chain([0, 1, u32::MAX - 1, u32::MAX]) {
                let long = points.points.partition_point(|point| point.at < key);
                assert_eq!(points.at_or_after(key), long, "{key}");
            }
        }
    }

    #[test]
    fn equal_members_stand_at_160_points_and_the_lightest_at_4() {
        let member = |name: &str, weight| Member { index: 0, name: name.into(), weight };
        let count = |points: &Points, position| {
            points.points.iter().filter(|point| point.owner == position).count()
        };
        let equal = [member("a", 7), member("b", 7), member("c", 7)];
        let points = Points::build(&equal.iter().collect::<Vec<_>>());
        assert_eq!([0, 1, 2].map(|position| count(&points, position)), [160; 3]);
        let unequal = [member("a", 1), member("b", 1_000_000)];
        let points = Points::build(&unequal.iter().collect::<Vec<_>>());
        assert_eq!([0, 1].map(|position| count(&points, position)), [4, 316]);
    }
}
