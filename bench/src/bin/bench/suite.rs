//! Which benchmark is run: the proxies as plain TCP proxies, as HTTP proxies and file servers, through TLS, or Evenkeel by
//! packet beside its own relay.
//! Everything that differs between them and is no figure stands here, as data.

use serde::{Deserialize, Serialize};

use crate::goals::{self, Goal};
use crate::measure::{self, Facts, Group, Measure};
use crate::peer::Peer;

/// One of the benchmarks; the same driver runs all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    #[default]
    Tcp,
    Http,
    /// The HTTP proxies again, all of it through TLS.
    Tls,
    /// Evenkeel balancing each packet, beside proxies that balance connections.
    Packets,
}

/// How the page of a suite is found, and what it calls things.
pub struct Words {
    /// The page under docs/, and what stands before and after its generated part.
    pub page: &'static str,
    pub begin: &'static str,
    pub end: &'static str,
    /// The file of samples under target/.
    pub samples: &'static str,
    /// What is counted a second.
    pub counted: &'static str,
    /// What stands behind the proxies.
    pub backend: &'static str,
    /// What a ratio is to.
    pub rival: &'static str,
}

const TCP: Words = Words {
    page: "docs/benchmarks.md",
    begin: "<!-- results -->",
    end: "<!-- /results -->",
    samples: "target/bench-results.json",
    counted: "messages/s",
    backend: "echo server",
    rival: "best peer",
};

const HTTP: Words = Words {
    page: "docs/benchmarks-http.md",
    begin: "<!-- http results -->",
    end: "<!-- /http results -->",
    samples: "target/bench-results-http.json",
    counted: "requests/s",
    backend: "backend",
    rival: "best peer",
};

const TLS: Words = Words {
    page: "docs/benchmarks-tls.md",
    begin: "<!-- tls results -->",
    end: "<!-- /tls results -->",
    samples: "target/bench-results-tls.json",
    counted: "requests/s",
    backend: "backend",
    rival: "best peer",
};

const PACKETS: Words = Words {
    page: "docs/benchmarks-packets.md",
    begin: "<!-- packet results -->",
    end: "<!-- /packet results -->",
    samples: "target/bench-results-packets.json",
    counted: "packets/s",
    backend: "echo servers",
    rival: "relay",
};

impl Suite {
    pub fn words(self) -> &'static Words {
        match self {
            Suite::Tcp => &TCP,
            Suite::Http => &HTTP,
            Suite::Tls => &TLS,
            Suite::Packets => &PACKETS,
        }
    }

    pub fn measures(self) -> &'static [Facts] {
        match self {
            Suite::Tcp => &measure::TCP,
            Suite::Http => &measure::HTTP,
            Suite::Tls => &measure::TLS,
            Suite::Packets => &measure::PACKETS,
        }
    }

    pub fn groups(self) -> &'static [Group] {
        match self {
            Suite::Tcp => &measure::TCP_GROUPS,
            Suite::Http => &measure::HTTP_GROUPS,
            Suite::Tls => &measure::TLS_GROUPS,
            Suite::Packets => &measure::PACKET_GROUPS,
        }
    }

    pub fn goals(self) -> &'static [Goal] {
        match self {
            Suite::Tcp => &goals::TCP,
            Suite::Http => &goals::HTTP,
            Suite::Tls => &goals::TLS,
            Suite::Packets => &goals::PACKETS,
        }
    }

    /// Whose rate sets the rate of the latency measure; also what warms a proxy up.
    pub fn base(self) -> Measure {
        match self {
            Suite::Tcp => Measure::MessagesMany,
            Suite::Http => Measure::RequestsMany,
            Suite::Tls => Measure::Secure,
            Suite::Packets => Measure::SingleSmallMany,
        }
    }

    /// What the load generator does for a moment before memory is read.
    pub fn touch(self) -> &'static str {
        match self {
            Suite::Tcp => "messages --connections 8",
            Suite::Http => "requests --connections 8 --path /1k",
            Suite::Tls => "secure --connections 8 --path /1k",
            Suite::Packets => "messages --connections 8 --packets 1",
        }
    }

    /// Whether what passes is HTTP.
    pub fn is_http(self) -> bool {
        matches!(self, Suite::Http | Suite::Tls)
    }

    /// Where the backend listens, at the same port each. Packets that all go to one backend would
    /// say nothing about balancing them.
    pub fn backend_hosts(self) -> &'static [&'static str] {
        match self {
            Suite::Packets => &["127.0.0.1", "127.0.0.2", "127.0.0.3"],
            _ => &["127.0.0.1"],
        }
    }

    /// Caddy and Pingora are HTTP servers alone. By packet, what counts is the relay; two proxies
    /// more say how good that one is.
    pub fn peers(self) -> Vec<Peer> {
        let has = |peer: &Peer| match self {
            Suite::Tcp => !matches!(peer, Peer::Relay | Peer::Caddy | Peer::Pingora),
            Suite::Http => *peer != Peer::Relay,
            Suite::Tls => !matches!(peer, Peer::Relay | Peer::Direct),
            Suite::Packets => {
                matches!(
                    peer,
                    Peer::Evenkeel | Peer::Relay | Peer::Haproxy | Peer::Nginx | Peer::Direct
                )
            }
        };
        Peer::ALL.into_iter().filter(has).collect()
    }

    /// Those that Evenkeel is held against.
    pub fn rivals(self) -> Vec<Peer> {
        let counts = |peer: &Peer| match self {
            Suite::Packets => *peer == Peer::Relay,
            _ => !matches!(peer, Peer::Evenkeel | Peer::Direct),
        };
        self.peers().into_iter().filter(counts).collect()
    }
}
