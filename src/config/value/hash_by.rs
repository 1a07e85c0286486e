//! What decides for hashing: a part of the request, or the client's address. The name of a header, cookie or
//! parameter stands behind the kind, so that one string says it all.

use std::fmt;
use std::str::FromStr;

use super::{Spelled, chosen, spelled};
use crate::config::problem::{Misread, shown};

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    Source,
    /// The name that a TLS client asks for (SNI).
    Sni,
    /// The value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The path, without the query.
    Path,
    /// Path and query.
    Uri,
    /// The value of this parameter of the query.
    Query(String),
    /// A part of each packet, where packets are balanced.
    Packet(PacketPart),
    /// The same of a connection's first packet, which then decides for all that follow.
    FirstPacket(PacketPart),
}

/// Some bytes of a packet; all of them if none are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketPart {
    /// Bytes before them.
    pub offset: u32,
    /// How many; none for all that follow.
    pub size: Option<u32>,
}

impl PacketPart {
    const WHOLE: PacketPart = PacketPart { offset: 0, size: None };

    /// `OFFSET:SIZE`.
    fn read(text: &str) -> Result<PacketPart, Misread> {
        let parts = text.split_once(':').and_then(|(offset, size)| {
            let (offset, size) = (offset.parse().ok()?, size.parse().ok()?);
            let is_fine = offset <= 65_535 && (1..=65_535).contains(&size);
            is_fine.then_some(PacketPart { offset, size: Some(size) })
        });
        parts.ok_or_else(|| {
            Misread::new(format!("\"{}\" is no part of a packet", shown(text)))
                .advise("write OFFSET:SIZE in bytes, for instance packet:4:8")
        })
    }

    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Some(size) => write!(f, ":{}:{size}", self.offset),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashBy::Source => f.write_str("source"),
            HashBy::Sni => f.write_str("sni"),
            HashBy::Header(name) => write!(f, "header:{name}"),
            HashBy::Cookie(name) => write!(f, "cookie:{name}"),
            HashBy::Path => f.write_str("path"),
            HashBy::Uri => f.write_str("uri"),
            HashBy::Query(name) => write!(f, "query:{name}"),
            HashBy::Packet(part) => {
                f.write_str("packet")?;
                part.write(f)
            }
            HashBy::FirstPacket(part) => {
                f.write_str("first-packet")?;
                part.write(f)
            }
        }
    }
}

impl FromStr for HashBy {
    type Err = Misread;

    fn from_str(text: &str) -> Result<HashBy, Misread> {
        let named = |kind: &str, name: &str, is_fine: bool| match is_fine {
            true => Ok(name.to_owned()),
            false => Err(Misread::new(format!("\"{}\" is not the name of a {kind}", shown(name)))
                .advise("write the name as it stands in requests")),
        };
        match text.split_once(':') {
            Some(("header", name)) => {
                named("header", name, evenkeel_wire::is_name(name.as_bytes())).map(HashBy::Header)
            }
            Some(("cookie", name)) => {
                named("cookie", name, evenkeel_wire::is_name(name.as_bytes())).map(HashBy::Cookie)
            }
            Some(("query", name)) => {
                let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=#".contains(&byte);
                let is_fine = !name.is_empty() && name.bytes().all(plain);
                named("parameter", name, is_fine).map(HashBy::Query)
            }
            Some(("packet", part)) => PacketPart::read(part).map(HashBy::Packet),
            Some(("first-packet", part)) => PacketPart::read(part).map(HashBy::FirstPacket),
            _ => {
                let words = [
                    ("source", 0),
                    ("path", 1),
                    ("uri", 2),
                    ("sni", 4),
                    ("packet", 5),
                    ("first-packet", 6),
                ];
                let named = [("header:NAME", 3), ("cookie:NAME", 3), ("query:NAME", 3)];
                let all = [&words[..], &named[..]].concat();
                Ok(match chosen(text, &all, "something to hash")? {
                    0 => HashBy::Source,
                    1 => HashBy::Path,
                    2 => HashBy::Uri,
                    4 => HashBy::Sni,
                    5 => HashBy::Packet(PacketPart::WHOLE),
                    6 => HashBy::FirstPacket(PacketPart::WHOLE),
                    _ => return Err(Misread::new("NAME stands for the name you mean")),
                })
            }
        }
    }
}

impl Spelled for HashBy {
    const WORDS: &'static str = "\"source\", \"sni\", \"header:NAME\", \"cookie:NAME\", \"path\", \"uri\", \"query:NAME\", \"packet:OFFSET:SIZE\", \"first-packet:OFFSET:SIZE\"";
    const PATTERN: Option<&'static str> = Some(
        "^(source|sni|path|uri|header:.+|cookie:.+|query:.+|(first-)?packet(:[0-9]+:[0-9]+)?)$",
    );
}

spelled!(HashBy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_is_read_and_written_back() {
        for text in ["source", "path", "uri", "header:X-User", "cookie:id", "query:user[id]"] {
            assert_eq!(text.parse::<HashBy>().unwrap().to_string(), text);
        }
        for text in ["packet", "first-packet", "packet:4:8", "first-packet:0:16"] {
            assert_eq!(text.parse::<HashBy>().unwrap().to_string(), text);
        }
        for text in ["packet:", "packet:4", "packet:4:0", "packet:70000:1", "packet:-1:4"] {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        assert_eq!("header:A".parse(), Ok(HashBy::Header("A".to_owned())));
    }

    #[test]
    fn what_no_request_can_have_is_not_hashed() {
        for text in ["", "paht", "header", "header:", "header:a b", "cookie:a;b", "cookie:a=b"] {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        for text in ["query:", "query:a=b", "query:a&b", "query:a b", "Header:x", "path:x"] {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        let near = "sourc".parse::<HashBy>().unwrap_err().to_string();
        assert!(near.contains("did you mean \"source\"?"), "{near}");
    }
}
