//! What a pick costs with a journal and without one, and what its record does: the goal is 200 ns for a record.
//! `cargo bench --bench journal`

#[path = "../src/observe/journal/pen.rs"]
mod pen;
#[path = "../src/observe/journal/record.rs"]
#[expect(dead_code, reason = "parts of it are for the reader")]
mod record;
#[path = "../src/observe/journal/ring.rs"]
#[expect(dead_code, reason = "parts of it are for the reader")]
mod ring;

use std::hint::black_box;

use divan::Bencher;
use evenkeel_balance::{Algorithm, Ask, HashOn, Loads, Member, Table};
use pen::{Gauge, Pen};
use record::{Asker, Mark, Noted, Outcome, RequestKey};
use ring::Ring;

/// Shows allocations beside the times: a record has none.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

struct Counts(Vec<u32>);

impl Gauge for Counts {
    fn open(&self, index: u32) -> u32 {
        self.0[index as usize]
    }

    fn most(&self, _: u32) -> u32 {
        u32::MAX
    }

    fn latency(&self, index: u32) -> f64 {
        0.001 + f64::from(self.0[index as usize]) / 1e4
    }

    fn total(&self) -> u64 {
        100
    }
}

/// The same without a journal.
struct Plain<'a>(&'a Counts);

impl Loads for Plain<'_> {
    fn open(&self, index: u32) -> u32 {
        self.0.open(index)
    }

    fn latency(&self, index: u32) -> f64 {
        self.0.latency(index)
    }

    fn has_room(&self, index: u32) -> bool {
        self.0.open(index) < self.0.most(index)
    }

    fn total_open(&self) -> Option<u64> {
        Some(self.0.total())
    }
}

fn table(algorithm: &Algorithm, count: u32) -> Table {
    let member = |index: u32| Member { index, name: format!("10.0.0.{index}:80"), weight: 1 };
    Table::build(algorithm, &(0..count).map(member).collect::<Vec<_>>())
}

fn algorithm(name: &str) -> Algorithm {
    match name {
        "round-robin" => Algorithm::RoundRobin,
        "least-connections" => Algorithm::LeastConnections,
        "power-of-two" => Algorithm::PowerOfTwo,
        "least-latency" => Algorithm::LeastLatency,
        _ => Algorithm::Hash { on: HashOn::Maglev, bounded_load: Some(1.25) },
    }
}

const ALGORITHMS: [&str; 5] =
    ["round-robin", "least-connections", "power-of-two", "least-latency", "maglev-bounded"];

/// A pen on the kind of folder that a process takes.
fn pen() -> Pen {
    let path = std::path::PathBuf::from(format!("/dev/shm/evenkeel-bench-{}", std::process::id()));
    let ring = Ring::create(&path, 8 << 20).expect("a ring on memory");
    std::fs::remove_file(path).expect("remove it");
    Pen::new(0, ring)
}

#[divan::bench(args = ALGORITHMS, consts = [10, 256])]
fn pick_without<const COUNT: u32>(bencher: Bencher, name: &str) {
    let (table, counts) = (table(&algorithm(name), COUNT), Counts(vec![3; COUNT as usize]));
    let mut ticket = 0_u64;
    bencher.bench_local(|| {
        ticket += 1;
        let seed = ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        table.pick(&Plain(&counts), black_box(&Ask { ticket, seed, key: seed, ..Ask::default() }))
    });
}

#[divan::bench(args = ALGORITHMS, consts = [10, 256])]
fn pick_with_record<const COUNT: u32>(bencher: Bencher, name: &str) {
    let (table, counts) = (table(&algorithm(name), COUNT), Counts(vec![3; COUNT as usize]));
    let (pen, asker) = (pen(), asker());
    let mut ticket = 0_u64;
    bencher.bench_local(|| {
        ticket += 1;
        let seed = ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ask = Ask { ticket, seed, key: seed, ..Ask::default() };
        let picked = table.pick(&pen.reading(&counts), black_box(&ask));
        note(&pen, &asker, &ask, picked)
    });
}

/// The record alone, of a pick that has read one load.
#[divan::bench]
fn record_alone(bencher: Bencher) {
    let (counts, pen, asker) = (Counts(vec![3; 10]), pen(), asker());
    let reading = pen.reading(&counts);
    assert_eq!(reading.open(7), 3);
    bencher.bench_local(|| note(&pen, &asker, black_box(&Ask::default()), Some(7)));
}

#[divan::bench]
fn end_alone(bencher: Bencher) {
    let pen = pen();
    bencher.bench_local(|| pen.note_end(black_box(Mark::new(3, 17))));
}

fn asker() -> Asker {
    let client = Some("192.0.2.7".parse().expect("an address"));
    let request = Some(RequestKey::of("0123456789abcdef0123456789abcdef"));
    Asker { plan: 1, listener: 0, route: 1, client, request }
}

fn note(pen: &Pen, asker: &Asker, ask: &Ask<'_>, picked: Option<u32>) -> Mark {
    let outcome = Outcome::Taken;
    pen.note(&Noted { asker, line_up: 1, ask, has_session: false, picked, outcome })
}
