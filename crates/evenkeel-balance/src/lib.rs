//! Which backend takes the next connection, request or packet, as a pure function.
//! [`Table`] is built once from the members and their weights; [`Table::pick`] then answers from
//! the loads of the moment, and [`Table::explain`] gives the same answer with its reasons.
//!
//! This crate must never read a clock, open a socket or make up a random number: the time, the
//! ticket and the seed are arguments. That is what lets a pick be replayed, explained and tested
//! without a running proxy. A pick allocates nothing and does not panic.
//!
//! ```
//! use evenkeel_balance::{Algorithm, Ask, Loads, Member, Table};
//!
//! struct Idle;
//! impl Loads for Idle {
//!     fn open(&self, _: u32) -> u32 {
//!         0
//!     }
//!     fn latency(&self, _: u32) -> f64 {
//!         0.0
//!     }
//!     fn has_room(&self, _: u32) -> bool {
//!         true
//!     }
//! }
//!
//! let members = ["10.0.0.1:80", "10.0.0.2:80"].iter().enumerate().map(|(index, name)| Member {
//!     index: index as u32,
//!     name: name.to_string(),
//!     weight: 1,
//! });
//! let table = Table::build(&Algorithm::RoundRobin, &members.collect::<Vec<_>>());
//! let turns: Vec<_> = (0..4)
//!     .map(|ticket| table.pick(&Idle, &Ask { ticket, ..Ask::default() }))
//!     .collect();
//! assert_eq!(turns, [Some(0), Some(1), Some(0), Some(1)]);
//! ```

mod bounded;
pub mod budget;
mod ewma;
mod hash;
pub mod health;
pub mod latency;
mod least;
mod maglev;
mod md5;
mod power_of_two;
mod random;
mod rendezvous;
mod ring;
mod round_robin;
mod search;
mod trace;
pub mod window;

pub use ewma::PeakEwma;
pub use hash::hash_bytes;
pub use ring::{ketama_hash, ring_key};
pub use trace::{Outcome, Step, Trace};

use bounded::Bound;
use search::{Blind, Candidate, Look, Search, Witness};
use trace::Recorder;

/// How a table chooses among its members.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// Each in turn, a heavier member more often and its turns spread out: smooth weighted
    /// round-robin as nginx orders it. Rests on [`Ask::ticket`].
    RoundRobin,
    /// By chance in proportion to weight. Rests on [`Ask::seed`].
    Random,
    /// The member with the least `(open + 1) / weight`; among equals the ticket decides.
    LeastConnections,
    /// Two different members drawn by weight, of which the one with less `(open + 1) / weight`
    /// wins (Mitzenmacher 2001). Rests on [`Ask::seed`].
    PowerOfTwo,
    /// Two different members drawn by weight, of which the one with less
    /// `latency * (open + 1) / weight` wins; with four members or fewer, the best of all.
    LeastLatency,
    /// The first member that can take it: the next one gets work only when those before are full.
    First,
    /// The same key goes to the same member for as long as the members stay the same.
    Hash {
        /// The structure that maps keys to members.
        on: HashOn,
        /// How far above its fair share a member may go, as a factor of at least 1 (Mirrokni,
        /// Thorup, Zadimoghaddam 2016); `None` for no bound, and less than 1 counts as 1.
        bounded_load: Option<f64>,
    },
}

/// The structure that maps keys to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// A lookup table filled by turns (Eisenbud et al., NSDI 2016): even and fast.
    Maglev,
    /// Points on a circle, placed as libketama places them: for sharing keys with its clients.
    Ring,
    /// Highest random weight (Thaler and Ravishankar 1998): the exact one, in O(n).
    Rendezvous,
}

/// One candidate that a table is built over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The caller's own number for it, which a pick returns.
    pub index: u32,
    /// Its stable identity, such as `10.0.0.1:80`; hashing rests on this and not on the position.
    pub name: String,
    /// Its share relative to the others; 0 leaves it out.
    pub weight: u32,
}

/// What changes between picks; `index` is always [`Member::index`].
pub trait Loads {
    /// How many connections or requests are in flight to this member.
    fn open(&self, index: u32) -> u32;

    /// Its peak EWMA latency in seconds, or 0 when nothing was measured yet.
    fn latency(&self, index: u32) -> f64;

    /// Whether its connection limit leaves room for one more.
    fn has_room(&self, index: u32) -> bool;

    /// The sum of [`Loads::open`] over the members of the table, for a caller who keeps it.
    ///
    /// Only a bounded load asks, and without an answer it adds them up itself, in O(n).
    fn total_open(&self) -> Option<u64> {
        None
    }
}

/// One question to a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What hashing goes by, from [`hash_bytes`] or, for a ketama-compatible ring, [`ring_key`].
    pub key: u64,
    /// The members that were tried for this connection or request and must not come again.
    pub tried: &'a [u32],
    /// The member to take before all others, if [`Table::takes`] it: where a session lives.
    pub preferred: Option<u32>,
    /// The number of this pick, counted up by one each time; its turn in the rotation.
    pub ticket: u64,
    /// A fresh random number; its quality decides that of `random` and `power-of-two`.
    pub seed: u64,
}

/// The members and an algorithm, compiled: build it again when members or weights change.
#[derive(Clone, Debug)]
pub struct Table {
    candidates: Vec<Candidate>,
    order: Order,
}

#[derive(Clone, Debug)]
enum Order {
    RoundRobin(round_robin::Cycle),
    Random(random::Draw),
    LeastConnections,
    PowerOfTwo(random::Draw),
    LeastLatency(random::Draw),
    First,
    Maglev(maglev::Slots, Option<Bound>),
    Ring(ring::Points, Option<Bound>),
    Rendezvous(Option<Bound>),
}

impl Table {
    /// Compiles the members, in the order given; those of weight 0 are left out.
    ///
    /// Costs O(n) for most algorithms; round-robin fills up to 65,536 entries, maglev at least
    /// 65,537 slots, and a ring 160 points a member.
    pub fn build(algorithm: &Algorithm, members: &[Member]) -> Table {
        let members: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
        let candidates: Vec<Candidate> = members.iter().map(|m| Candidate::new(m)).collect();
        let order = match algorithm {
            Algorithm::RoundRobin => Order::RoundRobin(round_robin::Cycle::build(&candidates)),
            Algorithm::Random => Order::Random(random::Draw::build(&candidates)),
            Algorithm::LeastConnections => Order::LeastConnections,
            Algorithm::PowerOfTwo => Order::PowerOfTwo(random::Draw::build(&candidates)),
            Algorithm::LeastLatency => Order::LeastLatency(random::Draw::build(&candidates)),
            Algorithm::First => Order::First,
            Algorithm::Hash { on, bounded_load } => {
                let bound = bounded_load.map(|factor| Bound::new(factor, &candidates));
                match on {
                    HashOn::Maglev => Order::Maglev(maglev::Slots::build(&candidates), bound),
                    HashOn::Ring => Order::Ring(ring::Points::build(&members), bound),
                    HashOn::Rendezvous => Order::Rendezvous(bound),
                }
            }
        };
        Table { candidates, order }
    }

    /// The member to go to, or `None` when every one was tried or has no room.
    pub fn pick(&self, loads: &impl Loads, ask: &Ask) -> Option<u32> {
        self.choose(loads, ask, &mut Blind)
    }

    /// What [`Table::pick`] answers, with the candidates looked at and why each was passed over.
    pub fn explain(&self, loads: &impl Loads, ask: &Ask) -> (Option<u32>, Trace) {
        let mut recorder = Recorder::default();
        let answer = self.choose(loads, ask, &mut recorder);
        (answer, recorder.into_trace())
    }

    /// Whether this member takes part, was not tried and has room. A bounded load is not asked: a
    /// session that moves costs more than a share that is exceeded.
    pub fn takes(&self, loads: &impl Loads, ask: &Ask, index: u32) -> bool {
        let mut nobody = Blind;
        let search = Search::new(&self.candidates, loads, ask, None, &mut nobody);
        search.place_of(index).is_some_and(|position| search.look(position) == Look::Free)
    }

    /// How many members take part.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether no member takes part, so that every pick is `None`.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn choose(&self, loads: &impl Loads, ask: &Ask, witness: &mut impl Witness) -> Option<u32> {
        let bound = match &self.order {
            Order::Maglev(_, bound) | Order::Ring(_, bound) | Order::Rendezvous(bound) => *bound,
            _ => None,
        };
        let mut search = Search::new(&self.candidates, loads, ask, bound, witness);
        if let Some(position) = search.preferred() {
            return Some(search.chosen(position));
        }
        let position = match &self.order {
            _ if self.is_empty() => None,
            Order::RoundRobin(cycle) => cycle.pick(&mut search),
            Order::Random(draw) => draw.pick(&mut search),
            Order::LeastConnections => least::pick(&mut search, least::busyness),
            Order::PowerOfTwo(draw) => power_of_two::pick(draw, &mut search, least::busyness),
            Order::LeastLatency(_) if self.len() <= least::SCAN_ALL => {
                least::pick(&mut search, least::slowness)
            }
            Order::LeastLatency(draw) => power_of_two::pick(draw, &mut search, least::slowness),
            Order::First => search.first(),
            Order::Maglev(slots, _) => slots.pick(&mut search),
            Order::Ring(points, _) => points.pick(&mut search),
            Order::Rendezvous(_) => rendezvous::pick(&mut search, ask.key),
        }?;
        Some(search.chosen(position))
    }
}
