//! What a pick costs, over 10,000 members of mixed weights that can all take it.
//! `cargo bench -p evenkeel-balance`

use std::cell::Cell;
use std::hint::black_box;

use divan::Bencher;
use evenkeel_balance::{Algorithm, Ask, HashOn, Loads, Member, Table, hash_bytes, ring_key};

/// Shows allocations beside the times: a pick has none.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

const MEMBERS: u32 = 10_000;

fn main() {
    divan::main();
}

struct Counts(Vec<u32>);

impl Loads for Counts {
    fn open(&self, index: u32) -> u32 {
        self.0[index as usize]
    }

    fn latency(&self, index: u32) -> f64 {
        0.001 + f64::from(self.0[index as usize]) / 1e4
    }

    fn has_room(&self, index: u32) -> bool {
        self.0[index as usize] < 1_000
    }

    fn total_open(&self) -> Option<u64> {
        Some(u64::from(MEMBERS) * 10)
    }
}

fn members(count: u32) -> Vec<Member> {
    let member = |index: u32| Member {
        index,
        name: format!("10.{}.{}.1:8080", index / 256, index % 256),
        weight: 1 + index % 5,
    };
    (0..count).map(member).collect()
}

fn hash(on: HashOn, bounded_load: Option<f64>) -> Algorithm {
    Algorithm::Hash { on, bounded_load }
}

/// Those that cost the same over any number of members, or nearly.
const QUICK: [&str; 9] = [
    "round-robin",
    "random",
    "power-of-two",
    "least-latency",
    "first",
    "maglev",
    "maglev bounded",
    "ring",
    "ring bounded",
];

/// Those that look at every member.
const THOROUGH: [&str; 2] = ["least-connections", "rendezvous"];

fn algorithm(name: &str) -> Algorithm {
    match name {
        "round-robin" => Algorithm::RoundRobin,
        "random" => Algorithm::Random,
        "power-of-two" => Algorithm::PowerOfTwo,
        "least-latency" => Algorithm::LeastLatency,
        "first" => Algorithm::First,
        "maglev" => hash(HashOn::Maglev, None),
        "maglev bounded" => hash(HashOn::Maglev, Some(1.25)),
        "ring" => hash(HashOn::Ring, None),
        "ring bounded" => hash(HashOn::Ring, Some(1.25)),
        "rendezvous" => hash(HashOn::Rendezvous, None),
        _ => Algorithm::LeastConnections,
    }
}

#[divan::bench(args = QUICK, sample_count = 100, sample_size = 10_000)]
fn pick(bencher: Bencher, name: &str) {
    ask_again_and_again(bencher, name);
}

#[divan::bench(args = THOROUGH)]
fn pick_among_all(bencher: Bencher, name: &str) {
    ask_again_and_again(bencher, name);
}

fn ask_again_and_again(bencher: Bencher, name: &str) {
    let table = Table::build(&algorithm(name), &members(MEMBERS));
    let loads = Counts((0..MEMBERS).map(|index| 5 + index % 11).collect());
    let number = Cell::new(0u64);
    bencher.bench_local(|| {
        let turn = number.get() + 1;
        number.set(turn);
        let scattered = hash_bytes(&turn.to_le_bytes());
        let ask = Ask { key: scattered, ticket: turn, seed: scattered, ..Ask::default() };
        table.pick(&loads, black_box(&ask))
    });
}

const BUILT: [&str; 5] = ["round-robin", "random", "maglev", "ring", "rendezvous"];

#[divan::bench(args = BUILT, sample_count = 5, sample_size = 1)]
fn build_of_10_000(bencher: Bencher, name: &str) {
    let (members, algorithm) = (members(MEMBERS), algorithm(name));
    bencher.bench_local(|| Table::build(&algorithm, &members));
}

#[divan::bench(args = BUILT, sample_count = 5, sample_size = 10)]
fn build_of_10(bencher: Bencher, name: &str) {
    let (members, algorithm) = (members(10), algorithm(name));
    bencher.bench_local(|| Table::build(&algorithm, &members));
}

#[divan::bench]
fn key_of_16_bytes() -> u64 {
    hash_bytes(black_box(b"2001:db8::1:8080"))
}

#[divan::bench]
fn ring_key_of_16_bytes() -> u64 {
    ring_key(black_box(b"2001:db8::1:8080"))
}
