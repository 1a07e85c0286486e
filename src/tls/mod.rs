//! TLS towards clients: which certificate is shown to whom, the handshake, and the protocol agreed on in it.
//! It is handed its settings; it must never look at the config, and never carries bytes once a handshake is done:
//! that is `link`. Certificates of clients, ACME, and TLS towards backends belong here too.

mod accept;
pub(crate) mod certificate;
mod names;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use accept::{Acceptor, Failed};

/// What was configured for TLS on one listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The first is shown to clients that ask for a name of none of them.
    pub(crate) identities: Vec<Files>,
    pub(crate) min_version: Version,
    /// How long a handshake may take, from accepting the connection.
    pub(crate) handshake_timeout: Duration,
    /// What is offered by ALPN (RFC 7301), the best first.
    pub(crate) protocols: Vec<&'static [u8]>,
}

/// Where a certificate, with those that vouch for it, and its key stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A version of TLS. There is none below these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}
