//! Words about packets: protocols, types of length fields, what is balanced, and what becomes of a packet.

use std::fmt;
use std::str::FromStr;

use evenkeel_wire::LengthKind;

use super::choice::choice;
use super::{Spelled, chosen, spelled};
use crate::config::problem::Misread;

choice! {
    /// A protocol whose packets can be told apart.
    pub enum PacketProtocol ("a protocol of packets") {
        /// MQTT, every version.
        Mqtt = "mqtt",
        /// RESP2 and RESP3, which Redis and its kin speak.
        Redis = "redis",
        /// Lines that end with a line feed.
        Lines = "lines",
    }
}

choice! {
    /// What is balanced.
    pub enum BalancePer ("something to balance by") {
        /// A backend for each connection.
        Connection = "connection",
        /// A backend for each packet.
        Packet = "packet",
    }
}

choice! {
    /// What comes back for a packet.
    pub enum Replies ("a word of replies") {
        /// One packet.
        One = "one",
        /// One or more, of which `last-reply` tells the last.
        Many = "many",
        /// Nothing, ever.
        None = "none",
    }
}

choice! {
    /// When a packet may be sent a second time.
    pub enum PacketRetry ("a word of retry") {
        /// When no backend can have had it whole.
        Unsent = "unsent",
        /// Also when a backend was lost that may have had it: doing it twice does no harm.
        Idempotent = "idempotent",
    }
}

choice! {
    /// Something that is known of a client.
    pub enum PrologueVariable ("a variable of a prologue") {
        /// Its address.
        ClientIp = "client.ip",
        /// The port that it comes from; 0 where it is not known.
        ClientPort = "client.port",
        /// A number that no other connection has.
        ConnectionId = "connection.id",
    }
}

/// The type of a length field, by its name or by Swoole's letter for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketLength {
    name: String,
    /// What it means.
    pub kind: LengthKind,
}

impl fmt::Display for PacketLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for PacketLength {
    type Err = Misread;

    fn from_str(text: &str) -> Result<PacketLength, Misread> {
        let kind = match LengthKind::named(text) {
            Some(kind) => kind,
            None => {
                let known: Vec<_> = LengthKind::names().map(|name| (name, ())).collect();
                chosen(text, &known, "a type of length field")?;
                LengthKind::Decimal
            }
        };
        Ok(PacketLength { name: text.to_owned(), kind })
    }
}

impl Spelled for PacketLength {
    const WORDS: &'static str = "type of a length field: \"u8\" to \"u64\" and \"i8\" to \"i64\", from 16 bits on with \"be\", \"le\" or nothing for this machine's order; \"varint\"; \"decimal\" or, with so many digits, \"decimal4\"; or one of Swoole's letters c C s S n v l L N V q Q J P";
    const PATTERN: Option<&'static str> =
        Some("^([ui](8|(16|32|64)(be|le)?)|varint|decimal([1-9]|1[0-8])?|[cCsSnvlLNVqQJP])$");
}

spelled!(PacketLength);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_and_written_back() {
        for text in ["u32be", "N", "varint", "decimal", "decimal4", "i64", "c", "C"] {
            assert_eq!(text.parse::<PacketLength>().unwrap().to_string(), text);
        }
        let near = "u32eb".parse::<PacketLength>().unwrap_err().to_string();
        assert!(near.contains("did you mean \"u32be\"?"), "{near}");
        for text in ["", "u24", "i", "I", "decimal0", "decimal99", "NN"] {
            assert!(text.parse::<PacketLength>().is_err(), "{text}");
        }
    }
}
