//! How backends and connections are watched: probes, the bytes they send and expect, keepalive. A
//! word switches the whole off; a table says the details.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::{Spelled, chosen, spelled};
use crate::config::problem::{Misread, shown};
use crate::config::read::{Node, Reader, Value};
use crate::config::{IdleConnections, KeepaliveProbes, Probe};

const BYTESTRING_MAX: usize = 4096;

/// How health is found out.
#[derive(Debug, Clone, PartialEq)]
// A config holds one for each upstream and is built once: the unused room does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Health {
    /// From the connections that clients cause. Written by leaving `health` out.
    Passive,
    /// Not at all: every backend counts as healthy.
    Off,
    /// From probes, and from the connections that clients cause.
    Active(Probe),
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Health::Passive => serializer.serialize_none(),
            Health::Off => serializer.serialize_str("off"),
            Health::Active(probe) => probe.serialize(serializer),
        }
    }
}

impl JsonSchema for Health {
    fn schema_name() -> Cow<'static, str> {
        "Health".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        words_or_table::<Probe>(&["off"], generator)
    }
}

impl Value for Health {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => Probe::read(node, reader).map(Health::Active),
            _ => reader.parsed(node, &Self::words(), |text| {
                chosen(text, &[("off", ())], "\"off\" or a table of checks")
                    .map(|()| Health::Off)
                    .map_err(|misread| misread.advise("write { http = \"/healthz\" } or \"off\""))
            }),
        }
    }

    fn words() -> String {
        "\"off\", or a table".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

/// Something that is `"off"`, `"on"` (with its defaults) or described by a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch<T> {
    /// Not at all.
    Off,
    /// Like this.
    On(T),
}

/// TCP keepalive: probes in a silent connection.
pub type Keepalive = Switch<KeepaliveProbes>;

/// HTTP keep-alive: connections to backends that stay open between two requests.
pub type KeepAlive = Switch<IdleConnections>;

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Switch::Off => serializer.serialize_str("off"),
            Switch::On(table) => table.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        words_or_table::<T>(&["off", "on"], generator)
    }
}

impl<T: Value + Default + JsonSchema> Value for Switch<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => T::read(node, reader).map(Switch::On),
            _ => reader.parsed(node, &Self::words(), |text| {
                let on = chosen(text, &[("off", false), ("on", true)], &Self::words())?;
                Ok(if on { Switch::On(T::default()) } else { Switch::Off })
            }),
        }
    }

    fn words() -> String {
        "\"off\", \"on\", or a table".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

fn words_or_table<T: JsonSchema>(words: &[&str], generator: &mut SchemaGenerator) -> Schema {
    let table = generator.subschema_for::<T>();
    let environment = json_schema!({ "type": "string", "pattern": "\\$\\{" });
    json_schema!({ "anyOf": [{ "enum": words }, table, environment] })
}

/// Bytes, written as text or as `"hex:0a0b"`; at most 4096.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytestring(pub Vec<u8>);

impl fmt::Display for Bytestring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with("hex:") => f.write_str(text),
            _ => {
                f.write_str("hex:")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for Bytestring {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Bytestring, Misread> {
        let bytes = match text.strip_prefix("hex:") {
            None => text.as_bytes().to_vec(),
            Some(digits) => from_hex(digits).ok_or_else(|| {
                Misread::new(format!("\"{}\" is not hexadecimal", shown(text)))
                    .advise("after \"hex:\" stand two digits for each byte: \"hex:0d0a\"")
            })?,
        };
        match bytes.len() {
            0..=BYTESTRING_MAX => Ok(Bytestring(bytes)),
            length => Err(Misread::new(format!(
                "{length} bytes are too long, at most {BYTESTRING_MAX} may stand here"
            ))),
        }
    }
}

/// Bytes from two digits each.
pub(crate) fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

impl Spelled for Bytestring {
    const WORDS: &'static str = "text, or bytes as \"hex:0d0a\"";
}

/// HTTP statuses from one to another, both included: `200` or `"200-299"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusRange(from, to) if from == to => from.fmt(f),
            StatusRange(from, to) => write!(f, "{from}-{to}"),
        }
    }
}

impl FromStr for StatusRange {
    type Err = Misread;

    fn from_str(text: &str) -> Result<StatusRange, Misread> {
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if (100..=to).contains(&from) && to < 600 => {
                Ok(StatusRange(from, to))
            }
            _ => Err(Misread::new(format!("\"{}\" is not a status or range of them", shown(text)))
                .advise("write 200 or \"200-299\", from 100 to 599")),
        }
    }
}

impl Spelled for StatusRange {
    const WORDS: &'static str = "status, as 200 or \"200-299\"";
    const PATTERN: Option<&'static str> = Some("^[1-5][0-9]{2}(-[1-5][0-9]{2})?$");
    const BARE: bool = true;

    fn from_integer(number: i128) -> Result<StatusRange, Misread> {
        number.to_string().parse()
    }

    fn as_integer(&self) -> Option<u64> {
        if self.0 == self.1 { Some(self.0.into()) } else { None }
    }
}

spelled!(Bytestring, StatusRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_written_back() {
        for text in ["PING\r\n", "", "hex:00ff", "é"] {
            assert_eq!(text.parse::<Bytestring>().unwrap().to_string(), text);
        }
        assert_eq!("hex:0D0a".parse(), Ok(Bytestring(b"\r\n".to_vec())));
        let sly = Bytestring(b"hex:zz".to_vec());
        assert_eq!(sly.to_string().parse(), Ok(sly));
    }

    #[test]
    fn wrong_or_long_bytes_are_refused() {
        for text in ["hex:0", "hex:0g", "hex:+1", "hex:é"] {
            assert!(text.parse::<Bytestring>().is_err(), "{text}");
        }
        assert!("a".repeat(4096).parse::<Bytestring>().is_ok());
        assert!("a".repeat(4097).parse::<Bytestring>().is_err());
    }

    #[test]
    fn statuses_are_read_and_written_back() {
        for text in ["200", "200-299"] {
            assert_eq!(text.parse::<StatusRange>().unwrap().to_string(), text);
        }
        for text in ["", "20", "2000", "099", "600", "299-200", "200-", "+20", "200-299-300"] {
            assert!(text.parse::<StatusRange>().is_err(), "{text}");
        }
    }
}
