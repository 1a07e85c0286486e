//! Which backend comes next, as a word or, for hashing, as a table. Only what is built stands here;
//! a further algorithm is one more line.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::choice::choice;
use super::{HashBy, chosen};
use crate::config::problem::Misread;
use crate::config::read::{Node, Reader, Value};

/// Which backend comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Balance {
    /// In turn, by weight, evenly spread.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// The less loaded of two drawn by chance.
    PowerOfTwo,
    /// The one that answered fastest of late.
    LeastLatency,
    /// The first in the list that is usable.
    First,
    /// `"hash"`, or `{ hash = "header:X-User", on = "maglev" | "ring" | "rendezvous", bounded-load = 1.25 }`.
    Hash {
        /// What is hashed.
        by: HashBy,
        /// How a hash becomes a backend.
        on: HashOn,
        /// The most load a backend may have, as a multiple of the average.
        bounded_load: Option<f64>,
    },
}

choice! {
    /// How a hash becomes a backend.
    pub enum HashOn ("a way to hash") {
        /// A table that is even, and changes little with the backends.
        Maglev = "maglev",
        /// A ring of points, compatible with ketama.
        Ring = "ring",
        /// The backend with the highest score: no table, more work for each pick.
        Rendezvous = "rendezvous",
    }
}

section! {
    /// `balance` as a table: what has the same key goes to the same backend for as long as it is usable.
    pub struct HashBalance {
        /// What is hashed: the client's address, or a part of an HTTP request. A request without it goes by the client's address.
        hash: HashBy = required,
        /// How a hash becomes a backend.
        on: HashOn = HashOn::Maglev,
        /// The most load a backend may have, as a multiple of the average (above 1); what is over goes to the next one. Absent: no bound.
        bounded_load: Option<f64> = None,
    }
}

const HASH: Balance = Balance::Hash { by: HashBy::Source, on: HashOn::Maglev, bounded_load: None };
const NAMES: [(&str, &Balance); 7] = [
    ("round-robin", &Balance::RoundRobin),
    ("random", &Balance::Random),
    ("least-connections", &Balance::LeastConnections),
    ("power-of-two", &Balance::PowerOfTwo),
    ("least-latency", &Balance::LeastLatency),
    ("first", &Balance::First),
    ("hash", &HASH),
];

impl Balance {
    fn table(&self) -> Option<HashBalance> {
        match self {
            Balance::Hash { by, on, bounded_load } => {
                Some(HashBalance { hash: by.clone(), on: *on, bounded_load: *bounded_load })
            }
            _ => None,
        }
    }
}

impl From<HashBalance> for Balance {
    fn from(table: HashBalance) -> Balance {
        Balance::Hash { by: table.hash, on: table.on, bounded_load: table.bounded_load }
    }
}

impl FromStr for Balance {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Balance, Misread> {
        chosen(text, &NAMES, "a way to balance").cloned()
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, balance)| *balance == self);
        f.write_str(name.map_or("hash", |(name, _)| name))
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.table() {
            Some(table) => table.serialize(serializer),
            None => serializer.collect_str(self),
        }
    }
}

impl JsonSchema for Balance {
    fn schema_name() -> Cow<'static, str> {
        "Balance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let table = generator.subschema_for::<HashBalance>();
        let environment = json_schema!({ "type": "string", "pattern": "\\$\\{" });
        json_schema!({ "anyOf": [{ "enum": names }, table, environment] })
    }
}

impl Value for Balance {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => HashBalance::read(node, reader).map(Balance::from),
            _ => reader.parsed(node, &Self::words(), str::parse),
        }
    }

    fn words() -> String {
        let names: Vec<String> = NAMES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("{}, or a table", names.join(", "))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written_back() {
        for (name, balance) in NAMES {
            assert_eq!(name.parse::<Balance>().as_ref(), Ok(balance));
            assert_eq!(balance.to_string(), name);
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_one() {
        let wrong = "roundrobin".parse::<Balance>().unwrap_err();
        assert!(wrong.to_string().contains("did you mean \"round-robin\"?"), "{wrong}");
    }
}
