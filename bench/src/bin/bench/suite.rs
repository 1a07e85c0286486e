//! Which benchmark is run: the proxies as plain TCP proxies, as HTTP proxies and file servers, or through TLS.
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
}

const TCP: Words = Words {
    page: "docs/benchmarks.md",
    begin: "<!-- results -->",
    end: "<!-- /results -->",
    samples: "target/bench-results.json",
    counted: "messages/s",
    backend: "echo server",
};

const HTTP: Words = Words {
    page: "docs/benchmarks-http.md",
    begin: "<!-- http results -->",
    end: "<!-- /http results -->",
    samples: "target/bench-results-http.json",
    counted: "requests/s",
    backend: "backend",
};

const TLS: Words = Words {
    page: "docs/benchmarks-tls.md",
    begin: "<!-- tls results -->",
    end: "<!-- /tls results -->",
    samples: "target/bench-results-tls.json",
    counted: "requests/s",
    backend: "backend",
};

impl Suite {
    pub fn words(self) -> &'static Words {
        match self {
            Suite::Tcp => &TCP,
            Suite::Http => &HTTP,
            Suite::Tls => &TLS,
        }
    }

    pub fn measures(self) -> &'static [Facts] {
        match self {
            Suite::Tcp => &measure::TCP,
            Suite::Http => &measure::HTTP,
            Suite::Tls => &measure::TLS,
        }
    }

    pub fn groups(self) -> &'static [Group] {
        match self {
            Suite::Tcp => &measure::TCP_GROUPS,
            Suite::Http => &measure::HTTP_GROUPS,
            Suite::Tls => &measure::TLS_GROUPS,
        }
    }

    pub fn goals(self) -> &'static [Goal] {
        match self {
            Suite::Tcp => &goals::TCP,
            Suite::Http => &goals::HTTP,
            Suite::Tls => &goals::TLS,
        }
    }

    /// Whose rate sets the rate of the latency measure; also what warms a proxy up.
    pub fn base(self) -> Measure {
        match self {
            Suite::Tcp => Measure::MessagesMany,
            Suite::Http => Measure::RequestsMany,
            Suite::Tls => Measure::Secure,
        }
    }

    /// What the load generator does for a moment before memory is read.
    pub fn touch(self) -> &'static str {
        match self {
            Suite::Tcp => "messages --connections 8",
            Suite::Http => "requests --connections 8 --path /1k",
            Suite::Tls => "secure --connections 8 --path /1k",
        }
    }

    /// Caddy and Pingora are HTTP servers alone.
    pub fn peers(self) -> Vec<Peer> {
        let all = Peer::ALL.into_iter();
        all.filter(|peer| self != Suite::Tcp || !matches!(peer, Peer::Caddy | Peer::Pingora))
            .filter(|peer| self != Suite::Tls || *peer != Peer::Direct)
            .collect()
    }
}
