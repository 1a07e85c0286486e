//! TLS towards clients: which certificate is shown to whom, what is demanded of theirs, the handshake, and the protocol
//! agreed on in it; and the same towards backends, from the other side. It is handed its settings; it must never look at
//! the config, and never carries bytes once a handshake is done: that is `link`. ACME belongs here too.

mod accept;
pub(crate) mod acme;
pub(crate) mod certificate;
pub(crate) mod clients;
pub(crate) mod connect;
mod expiry;
mod files;
mod flaw;
mod names;
mod ocsp;
mod offer;
mod pace;
mod shown;
mod start_tls;
pub(crate) mod tickets;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use accept::{Accepted, Acceptor, Agreed, Failed, UNRECOGNIZED_NAME};
pub(crate) use clients::{Auth, Demand};
pub(crate) use connect::{Connector, Outward, Trust};
pub(crate) use expiry::Expiry;
pub(crate) use files::Flaw;
pub(crate) use flaw::HandshakeFlaw;
pub(crate) use pace::Pace;
pub(crate) use shown::Shown;
pub(crate) use watch::{Sectioned, Watch};

/// What was configured for TLS on one listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Certificates, each with what is demanded of the clients that ask for its names. The first is shown to clients
    /// that ask for a name of none of them.
    pub(crate) identities: Vec<(Source, Demand)>,
    /// Whether clients are refused that ask for a name of none of them.
    pub(crate) refuse_unknown_names: bool,
    pub(crate) min_version: Version,
    /// Keys for tickets that others have too.
    pub(crate) ticket_keys: Option<PathBuf>,
    /// How long a handshake may take, from accepting the connection.
    pub(crate) handshake_timeout: Duration,
    /// Handshakes at the same time, over all workers.
    pub(crate) handshakes_max: usize,
    /// What is offered by ALPN (RFC 7301), the best first.
    pub(crate) protocols: Vec<Vec<u8>>,
    /// Whether clients that do not begin as TLS does are somebody else's business.
    pub(crate) allow_plain: bool,
    pub(crate) start_tls: Option<StartTls>,
}

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Files(Files),
    /// They are got by ACME.
    Managed(Arc<acme::Managed>),
}

/// Where a certificate, with those that vouch for it, its key and what is shown with it stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ocsp: Option<PathBuf>,
}

/// What a protocol has its clients say in clear before their handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartTls {
    Postgresql,
}

/// A version of TLS. There is none below these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Settings {
    /// Every file that is read, and read anew when it changes.
    fn files(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = self.ticket_keys.iter().cloned().collect();
        for (source, demand) in &self.identities {
            match source {
                Source::Files(Files { certificate, key, ocsp }) => {
                    all.extend([certificate, key].into_iter().chain(ocsp).cloned());
                }
                Source::Managed(managed) => all.push(managed.file()),
            }
            all.extend(demand.ca.iter().chain(&demand.crl).cloned());
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where answers to challenges of ACME may stand.
    fn acme_states(&self) -> Vec<PathBuf> {
        let managed = self.identities.iter().filter_map(|(source, _)| match source {
            Source::Managed(managed) => Some(managed.folder()),
            Source::Files(_) => None,
        });
        let mut states: Vec<_> = managed.collect();
        states.sort_unstable();
        states.dedup();
        states
    }
}
