//! What a backend is told before anything else: for whom a connection to it is made (PROXY protocol), and what else is
//! known of that client, as far as it was chosen.

use std::net::SocketAddr;

use evenkeel_wire::{tlv, write_proxy_v1, write_proxy_v2};

use crate::tls::Agreed;

/// How it is told, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendProxy {
    pub(crate) version: ProxyVersion,
    /// With version 2.
    pub(crate) facts: Vec<Fact>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyVersion {
    V1,
    V2,
}

/// Something that may be told of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The name it asks for.
    Authority,
    /// The protocol that was agreed on.
    Alpn,
    /// Its TLS, and whose certificate it has shown.
    Ssl,
    /// The id of its request.
    UniqueId,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    /// Its address, and the one that it connected to; without them the connection is our own, or nobody knows.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    pub(crate) name: Option<&'a str>,
    pub(crate) protocol: Option<&'a [u8]>,
    /// None where it speaks in clear, or its TLS only passes through.
    pub(crate) tls: Option<KnownTls<'a>>,
    pub(crate) id: Option<&'a str>,
}

/// What is known of its TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownTls<'a> {
    pub(crate) version: &'a str,
    pub(crate) suite: &'a str,
    /// Whether it has shown a certificate; one that is not taken does not come so far.
    pub(crate) certified: bool,
    pub(crate) cn: Option<&'a str>,
}

/// Kinds of facts within the one about TLS, and its flags (proxy-protocol.txt 2.2.6).
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// The longest id (proxy-protocol.txt 2.2.5).
const ID_MAX: usize = 128;

impl SendProxy {
    /// The header for a connection of our own, such as a health check.
    pub(crate) fn own(&self) -> Box<[u8]> {
        self.header(&Known::default())
    }

    /// The header for a client.
    pub(crate) fn header(&self, known: &Known<'_>) -> Box<[u8]> {
        let mut header = Vec::new();
        match self.version {
            ProxyVersion::V1 => write_proxy_v1(&mut header, known.ends),
            ProxyVersion::V2 => {
                let told: Vec<(u8, Vec<u8>)> =
                    self.facts.iter().filter_map(|fact| fact.of(known)).collect();
                let told: Vec<_> = told.iter().map(|(kind, value)| (*kind, &value[..])).collect();
                // Of a connection of our own, there is no client to speak of.
                let told = if known.ends.is_some() { &told[..] } else { &[] };
                write_proxy_v2(&mut header, known.ends, told);
            }
        }
        header.into_boxed_slice()
    }
}

impl Fact {
    /// Its kind and its value; none where it is not known.
    fn of(self, known: &Known<'_>) -> Option<(u8, Vec<u8>)> {
        match self {
            Fact::Authority => known.name.map(|name| (tlv::AUTHORITY, name.as_bytes().to_vec())),
            Fact::Alpn => known.protocol.map(|protocol| (tlv::ALPN, protocol.to_vec())),
            Fact::UniqueId => {
                let id = known.id.filter(|id| id.len() <= ID_MAX)?;
                Some((tlv::UNIQUE_ID, id.as_bytes().to_vec()))
            }
            Fact::Ssl => known.tls.map(|tls| (tlv::SSL, tls.value())),
        }
    }
}

impl Agreed {
    /// What may be told of it.
    pub(crate) fn known(&self) -> KnownTls<'_> {
        KnownTls {
            version: self.version,
            suite: self.suite,
            certified: self.shown.is_some(),
            cn: self.shown.as_ref().and_then(|shown| shown.cn.as_deref()),
        }
    }
}

impl KnownTls<'_> {
    fn value(&self) -> Vec<u8> {
        let certified = if self.certified { CLIENT_CERT_CONN | CLIENT_CERT_SESS } else { 0 };
        let mut value = vec![CLIENT_SSL | certified];
        // 0 says that a certificate was shown and is good.
        value.extend(u32::from(!self.certified).to_be_bytes());
        let facts = [
            (SSL_VERSION, Some(self.version)),
            (SSL_CIPHER, Some(self.suite)),
            (SSL_COMMON_NAME, self.cn),
        ];
        for (kind, text) in facts {
            let Some(text) = text else { continue };
            let Ok(length) = u16::try_from(text.len()) else { continue };
            value.push(kind);
            value.extend(length.to_be_bytes());
            value.extend_from_slice(text.as_bytes());
        }
        value
    }
}
