//! What changes seldom and is noted when it does: the plans, and the line-ups that picks were made from. A pick names its line-up by
//! number; with both, it can be made again.

use std::fmt;

use evenkeel_balance::{Algorithm, HashOn, Member};
use serde::{Deserialize, Serialize};

/// A note, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Note {
    #[serde(rename = "plan")]
    Planned(PlanNote),
    LineUp(LineUpNote),
}

/// A plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PlanNote {
    pub(crate) plan: u32,
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    /// Its listeners, as their sections are called.
    pub(crate) listeners: Vec<String>,
    /// The config that it was made of, with every default filled in and absolute paths; empty in a ring, where it is a file beside.
    pub(crate) config: String,
}

/// The backends of an upstream, as picks found them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LineUpNote {
    pub(crate) line_up: u32,
    pub(crate) at: u64,
    pub(crate) upstream: String,
    pub(crate) balance: BalanceNote,
    /// What decides for hashing, as far as two can be told apart by it.
    pub(crate) key: String,
    /// A name was still being looked up.
    pub(crate) pending: bool,
    pub(crate) backends: Vec<BackendNote>,
    /// Places of those that take part with their weights; of usable ones, of usable backups, and of those that only sessions lead to.
    pub(crate) main: Vec<(u32, u32)>,
    pub(crate) backup: Vec<(u32, u32)>,
    pub(crate) drained: Vec<(u32, u32)>,
}

/// One backend of a line-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BackendNote {
    /// Its address.
    pub(crate) name: String,
    /// As the config calls it, with its port.
    pub(crate) authority: String,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    /// How many connections it may have.
    pub(crate) most: u32,
    pub(crate) state: String,
}

/// How an upstream balances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BalanceNote {
    RoundRobin,
    Random,
    LeastConnections,
    PowerOfTwo,
    LeastLatency,
    First,
    Maglev(Bound),
    Ring(Bound),
    Rendezvous(Bound),
}

/// The bits of a bounded load's factor, so that nothing is rounded.
pub(crate) type Bound = Option<u64>;

impl From<&Algorithm> for BalanceNote {
    fn from(algorithm: &Algorithm) -> BalanceNote {
        match algorithm {
            Algorithm::RoundRobin => BalanceNote::RoundRobin,
            Algorithm::Random => BalanceNote::Random,
            Algorithm::LeastConnections => BalanceNote::LeastConnections,
            Algorithm::PowerOfTwo => BalanceNote::PowerOfTwo,
            Algorithm::LeastLatency => BalanceNote::LeastLatency,
            Algorithm::First => BalanceNote::First,
            Algorithm::Hash { on, bounded_load } => {
                let bound = bounded_load.map(f64::to_bits);
                match on {
                    HashOn::Maglev => BalanceNote::Maglev(bound),
                    HashOn::Ring => BalanceNote::Ring(bound),
                    HashOn::Rendezvous => BalanceNote::Rendezvous(bound),
                }
            }
        }
    }
}

impl From<&BalanceNote> for Algorithm {
    fn from(note: &BalanceNote) -> Algorithm {
        let hash = |on: HashOn, bound: &Bound| Algorithm::Hash {
            on,
            bounded_load: bound.map(f64::from_bits),
        };
        match note {
            BalanceNote::RoundRobin => Algorithm::RoundRobin,
            BalanceNote::Random => Algorithm::Random,
            BalanceNote::LeastConnections => Algorithm::LeastConnections,
            BalanceNote::PowerOfTwo => Algorithm::PowerOfTwo,
            BalanceNote::LeastLatency => Algorithm::LeastLatency,
            BalanceNote::First => Algorithm::First,
            BalanceNote::Maglev(bound) => hash(HashOn::Maglev, bound),
            BalanceNote::Ring(bound) => hash(HashOn::Ring, bound),
            BalanceNote::Rendezvous(bound) => hash(HashOn::Rendezvous, bound),
        }
    }
}

/// As the config names it.
impl fmt::Display for BalanceNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bound) = match self {
            BalanceNote::RoundRobin => ("round-robin", &None),
            BalanceNote::Random => ("random", &None),
            BalanceNote::LeastConnections => ("least-connections", &None),
            BalanceNote::PowerOfTwo => ("power-of-two", &None),
            BalanceNote::LeastLatency => ("least-latency", &None),
            BalanceNote::First => ("first", &None),
            BalanceNote::Maglev(bound) => ("hash on maglev", bound),
            BalanceNote::Ring(bound) => ("hash on ring", bound),
            BalanceNote::Rendezvous(bound) => ("hash on rendezvous", bound),
        };
        f.write_str(name)?;
        bound.map_or(Ok(()), |bits| write!(f, ", bounded-load {}", f64::from_bits(bits)))
    }
}

impl LineUpNote {
    /// Who takes part in a table, as tables are built of it.
    pub(crate) fn members(&self, of: &[(u32, u32)]) -> Vec<Member> {
        let name = |index: u32| self.backends.get(index as usize).map(|known| known.name.clone());
        let member = |(index, weight): &(u32, u32)| Member {
            index: *index,
            name: name(*index).unwrap_or_default(),
            weight: *weight,
        };
        of.iter().map(member).collect()
    }

    /// The name of a backend by its place.
    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        self.backends.get(index as usize).map(|known| known.name.as_str())
    }
}
