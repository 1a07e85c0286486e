//! Values of TLS: what is demanded of clients, which versions and suites there are, and which certificate is meant.

use std::fmt;
use std::str::FromStr;

use super::choice::choice;
use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

choice! {
    /// A version of TLS.
    pub enum TlsVersion ("a version of TLS") {
        /// TLS 1.2 (RFC 5246).
        Tls12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        Tls13 = "1.3",
    }
}

choice! {
    /// Versions and cipher suites by the names that Mozilla's server side recommendations gave them.
    pub enum TlsProfile ("a profile of TLS") {
        /// TLS 1.3 alone.
        Modern = "modern",
        /// TLS 1.2 and 1.3, with forward secrecy in both.
        Intermediate = "intermediate",
    }
}

choice! {
    /// Whether clients show a certificate.
    pub enum ClientAuth ("a word of client-auth") {
        /// They are not asked.
        Off = "off",
        /// They are asked; who has none is served without, and who shows a wrong one is refused.
        Optional = "optional",
        /// Who shows none, or a wrong one, is refused.
        Required = "required",
    }
}

choice! {
    /// What becomes of a client that asks for a name of no certificate.
    pub enum UnknownName ("a word of unknown-name") {
        /// It is shown the first of all certificates.
        First = "first",
        /// It is refused.
        Refused = "refused",
    }
}

choice! {
    /// How it is shown to an authority that names are ours.
    pub enum Challenge ("a challenge of ACME") {
        /// By a certificate in a handshake (RFC 8737).
        TlsAlpn = "tls-alpn-01",
        /// By an answer over HTTP (RFC 8555 8.3).
        Http = "http-01",
        /// By a record in DNS (RFC 8555 8.4).
        Dns = "dns-01",
    }
}

choice! {
    /// Whether backends must prove who they are.
    pub enum Verify ("a word of verify") {
        /// By their certificates.
        Full = "full",
        /// They need not.
        Off = "off",
    }
}

choice! {
    /// A protocol whose clients ask for TLS in words of their own.
    pub enum StartTls ("a protocol of starttls") {
        /// PostgreSQL, by SSLRequest. Clients that begin with TLS at once are served too.
        Postgresql = "postgresql",
    }
}

/// The SHA-256 of a whole certificate, as `openssl x509 -fingerprint -sha256` prints it, with or without colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Fingerprint, Misread> {
        let wrong = || {
            let message = format!("\"{}\" is not a fingerprint", shown(text));
            let advice = "write 64 hexadecimal digits, as `openssl x509 -in FILE -noout -fingerprint -sha256` prints them";
            Misread::new(message).advise(advice)
        };
        let digits: Vec<u32> = text
            .chars()
            .filter(|character| *character != ':')
            .map(|character| character.to_digit(16).ok_or_else(wrong))
            .collect::<Result<_, _>>()?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] * 16 + pair[1]) as u8;
        }
        Ok(Fingerprint(bytes))
    }
}

impl Spelled for Fingerprint {
    const WORDS: &'static str = "SHA-256 of a certificate";
    const PATTERN: Option<&'static str> = Some("^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$");
}

spelled!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let digits = "0123456789abcdef".repeat(4);
        let colons: Vec<_> =
            digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair)).collect();
        let colons = colons.join(":").to_uppercase();
        for text in [&digits, &colons] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), digits);
        }
        for wrong in ["", "0123", &digits[1..], &format!("{digits}0"), &digits.replace('0', "g")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
