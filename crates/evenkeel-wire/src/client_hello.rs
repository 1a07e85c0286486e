//! The first message of a TLS client (RFC 8446 4.1.2, RFC 5246 7.4.1.2), read for two things only: the name it asks for
//! (SNI) and the protocols it offers (ALPN). Nothing is decrypted. What could be read in two ways is refused, since the
//! server behind us would choose for itself. With Encrypted Client Hello (RFC 9849) the name is the outer one, which is
//! the only one there is to see.

use std::fmt;

/// The longest message that is read. Those of browsers, with post-quantum keys, have about 2 KB.
pub const CLIENT_HELLO_MAX: usize = 16 * 1024;

/// Bytes from a client that are looked at: the message and the heads of the records that it comes in.
pub const CLIENT_HELLO_BYTES_MAX: usize = CLIENT_HELLO_MAX + 2 * 1024;

/// What a record may carry (RFC 8446 5.1).
const RECORD_MAX: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a client says of itself before anything is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name it asks for, in lower case and without a dot at its end.
    pub server_name: Option<String>,
    /// The protocols it offers, the preferred one first.
    pub protocols: Vec<Vec<u8>>,
}

/// What came of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientHelloRead {
    /// More bytes are needed.
    Partial,
    /// The message is whole.
    Whole(ClientHello),
}

/// Why these bytes are not the beginning of TLS, or have no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientHelloRefusal {
    /// They begin like something else.
    NotTls,
    /// Another message stands where a ClientHello must.
    NotClientHello,
    /// It is longer than [`CLIENT_HELLO_MAX`], or comes in too many records.
    TooLong,
    /// Lengths do not fit into each other, or an extension stands twice.
    Malformed,
    /// The name is none that DNS could know.
    BadName,
}

impl fmt::Display for ClientHelloRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientHelloRefusal::NotTls => "it does not begin as TLS does",
            ClientHelloRefusal::NotClientHello => "its first message is no ClientHello",
            ClientHelloRefusal::TooLong => "its ClientHello is longer than 16 KiB",
            ClientHelloRefusal::Malformed => "its ClientHello is malformed",
            ClientHelloRefusal::BadName => "the name it asks for is no name",
        })
    }
}

impl std::error::Error for ClientHelloRefusal {}

type Result<T> = std::result::Result<T, ClientHelloRefusal>;

/// Reads the ClientHello at the start of what a client has sent so far, over as many records as it comes in.
///
/// # Errors
/// If the bytes are something else, or have no single reading. More bytes never make that better.
pub fn read_client_hello(bytes: &[u8]) -> Result<ClientHelloRead> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some(record) = Record::next(rest)? else {
            let is_full = bytes.len() >= CLIENT_HELLO_BYTES_MAX;
            let partial = Ok(ClientHelloRead::Partial);
            return if is_full { Err(ClientHelloRefusal::TooLong) } else { partial };
        };
        message.extend_from_slice(record.fragment);
        rest = record.after;
        let Some(length) = message_length(&message)? else { continue };
        // A second message in its last record: TLS 1.3 forbids it, and it is no business of ours.
        if message.len() + record.missing > length {
            return Err(ClientHelloRefusal::Malformed);
        }
        if message.len() == length {
            return hello(&message[4..]).map(ClientHelloRead::Whole);
        }
    }
}

/// One record as far as it has come.
struct Record<'b> {
    fragment: &'b [u8],
    /// Bytes of it that have not come yet.
    missing: usize,
    after: &'b [u8],
}

impl<'b> Record<'b> {
    /// None if nothing of what it carries has come.
    fn next(bytes: &'b [u8]) -> Result<Option<Record<'b>>> {
        match bytes {
            [] => return Ok(None),
            [HANDSHAKE, ..] => {}
            _ => return Err(ClientHelloRefusal::NotTls),
        }
        // The version there is of no meaning but its first byte (RFC 8446 5.1).
        if bytes.get(1).is_some_and(|major| *major != 3) {
            return Err(ClientHelloRefusal::NotTls);
        }
        let [_, _, _, high, low, body @ ..] = bytes else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD_MAX {
            return Err(ClientHelloRefusal::Malformed);
        }
        if body.is_empty() {
            return Ok(None);
        }
        let (fragment, after) = body.split_at(length.min(body.len()));
        Ok(Some(Record { fragment, missing: length - fragment.len(), after }))
    }
}

/// The length of the whole message, its head included, once that is known.
fn message_length(message: &[u8]) -> Result<Option<usize>> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(ClientHelloRefusal::NotClientHello);
    }
    let [_, high, middle, low, ..] = message else { return Ok(None) };
    let length = 4 + (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low));
    if length > CLIENT_HELLO_MAX { Err(ClientHelloRefusal::TooLong) } else { Ok(Some(length)) }
}

fn hello(body: &[u8]) -> Result<ClientHello> {
    let mut body = Bytes(body);
    body.take(2 + 32)?;
    if body.short_list()?.len() > 32 {
        return Err(ClientHelloRefusal::Malformed);
    }
    let suites = body.long_list()?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) || body.short_list()?.is_empty() {
        return Err(ClientHelloRefusal::Malformed);
    }
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Bytes(body.long_list()?);
    body.end()?;
    let (mut name_seen, mut protocols_seen) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let value = Bytes(extensions.long_list()?);
        // What is not known is none of our business, GREASE (RFC 8701) among it.
        match kind {
            SERVER_NAME if std::mem::replace(&mut name_seen, true) => {
                return Err(ClientHelloRefusal::Malformed);
            }
            SERVER_NAME => hello.server_name = Some(server_name(value)?),
            ALPN if std::mem::replace(&mut protocols_seen, true) => {
                return Err(ClientHelloRefusal::Malformed);
            }
            ALPN => hello.protocols = protocols(value)?,
            _ => {}
        }
    }
    Ok(hello)
}

/// The one name of the one kind there is (RFC 6066 3).
fn server_name(mut value: Bytes<'_>) -> Result<String> {
    let mut list = Bytes(value.long_list()?);
    value.end()?;
    if list.take(1)? != [0] {
        return Err(ClientHelloRefusal::Malformed);
    }
    let name = list.long_list()?;
    list.end()?;
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_label = |label: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.iter().all(plain)
    };
    // Some clients write addresses; those of IPv6 have colons.
    let is_name = name.len() <= 253 && name.split(|byte| *byte == b'.').all(is_label);
    let text = str::from_utf8(name).map_err(|_| ClientHelloRefusal::BadName)?;
    if is_name || text.parse::<std::net::Ipv6Addr>().is_ok() {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(ClientHelloRefusal::BadName)
    }
}

/// RFC 7301 3.1.
fn protocols(mut value: Bytes<'_>) -> Result<Vec<Vec<u8>>> {
    let mut list = Bytes(value.long_list()?);
    value.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        match list.short_list()? {
            [] => return Err(ClientHelloRefusal::Malformed),
            protocol => protocols.push(protocol.to_vec()),
        }
    }
    if protocols.is_empty() { Err(ClientHelloRefusal::Malformed) } else { Ok(protocols) }
}

/// Bytes that are taken from the front.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ClientHelloRefusal::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A list with its length in one byte before it.
    fn short_list(&mut self) -> Result<&'b [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// A list with its length in two bytes before it.
    fn long_list(&mut self) -> Result<&'b [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ClientHelloRefusal::Malformed) }
    }
}
