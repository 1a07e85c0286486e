//! How a connection ended: the one record that every accepted connection leaves behind.
//! The reasons are a closed list; docs/why-did-it-end.md has an entry for each, held by a test.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::tls::Shown;

/// Which side a connection came from; never mixed up with a backend's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientAddress {
    /// A TCP client.
    Ip(SocketAddr),
    /// A client that a trusted proxy in front of us told of; its port is not known.
    Told(IpAddr),
    /// A client of a Unix socket, which has no address worth printing.
    Unix,
}

impl ClientAddress {
    /// With its port, where that is known.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            ClientAddress::Ip(address) => Some(address),
            ClientAddress::Told(_) | ClientAddress::Unix => None,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAddress::Ip(address) => address.fmt(f),
            ClientAddress::Told(address) => address.fmt(f),
            ClientAddress::Unix => f.write_str("unix"),
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal $side:ident,)*) => {
        /// Why a connection ended. Each reason has one guilty side, [`Why::side`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Why {
            $($(#[doc = $doc])* $name,)*
        }

        impl Why {
            /// Every reason there is, in the order of the documentation.
            pub const ALL: &[Why] = &[$(Why::$name),*];

            /// The word in the access log.
            pub fn as_str(self) -> &'static str {
                match self { $(Why::$name => $text,)* }
            }

            /// Whose doing it was.
            pub fn side(self) -> Side {
                match self { $(Why::$name => Side::$side,)* }
            }

            /// What it means, in one line.
            pub fn meaning(self) -> &'static str {
                match self { $(Why::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Both sides finished in order, the client first.
    ClientFinished "client-finished" Client,
    /// Both sides finished in order, the backend first.
    BackendFinished "backend-finished" Backend,
    /// The client reset the connection.
    ClientReset "client-reset" Client,
    /// The backend reset the connection.
    BackendReset "backend-reset" Backend,
    /// No backend tried could be connected to; the last one refused.
    ConnectRefused "connect-refused" Backend,
    /// No backend tried could be connected to; the last one did not answer within `connect-timeout`.
    ConnectTimeout "connect-timeout" Backend,
    /// No backend tried could be connected to; the last one was unreachable or failed in another way.
    ConnectUnreachable "connect-unreachable" Backend,
    /// No backend tried could be connected to; with the last one, the TLS handshake failed.
    BackendTls "backend-tls" Backend,
    /// No backend is usable: all are down, ejected or drained, or their names have no address.
    NoBackend "no-backend" Backend,
    /// The client address is not allowed by `allow` and `deny`.
    Denied "denied" Client,
    /// The process already serves `connections-max` connections.
    LimitProcess "limit-process" Limit,
    /// Memory is used up to `memory-max`: a new connection was refused, or one that was idle was closed for others.
    LimitMemory "limit-memory" Limit,
    /// The listener already serves its `connections-max` connections.
    LimitListener "limit-listener" Limit,
    /// The client address already has `client-connections-max` connections.
    LimitClient "limit-client" Limit,
    /// The client address opens more than `client-connections-per-second`.
    LimitClientRate "limit-client-rate" Limit,
    /// Every usable backend is at its `connections-max`, and `queue-max` connections wait already.
    QueueFull "queue-full" Limit,
    /// No place at a backend became free within `queue-timeout`.
    QueueTimeout "queue-timeout" Timeout,
    /// PROXY protocol: a proxy of `accept-proxy` sent no header, not in time, or one that cannot be believed.
    ProxyHeader "proxy-header" Client,
    /// Packets: the client sent one that is too long, or that cannot be one.
    BadPacket "bad-packet" Client,
    /// TLS: the handshake failed, or was not done within `handshake-timeout`.
    TlsFailed "tls-failed" Client,
    /// HTTP: a backend's answer went to the client as a whole.
    Answered "answered" Backend,
    /// HTTP: the host asked for demands another certificate of clients than the name that the connection was opened for.
    Misdirected "misdirected" Client,
    /// HTTP: answered by Evenkeel itself, as the route says: a file, a redirect or a fixed reply.
    Replied "replied" Us,
    /// HTTP: the request breaks the rules or can be read in more than one way, and was refused.
    BadRequest "bad-request" Client,
    /// HTTP: there is no such file to serve, or it may not be read.
    NoFile "no-file" Client,
    /// No route of the listener takes the request, or on TCP the connection.
    NoRoute "no-route" Client,
    /// HTTP: the client ended the connection before its request was complete, or before it had the answer.
    ClientGone "client-gone" Client,
    /// HTTP: the backend's answer breaks the rules or can be read in more than one way.
    BadResponse "bad-response" Backend,
    /// HTTP: the backend ended the connection before its answer was complete.
    BackendGone "backend-gone" Backend,
    /// HTTP: the client sends more requests than `rate-limit` allows.
    LimitRate "limit-rate" Limit,
    /// HTTP: the route already serves its `requests-max` requests.
    LimitRoute "limit-route" Limit,
    /// HTTP: the request was not let in: no password or a wrong one, or the upstream of `forward-auth` said no.
    Unauthorized "unauthorized" Client,
    /// HTTP: the body of the request is larger than `body-max`.
    LimitBody "limit-body" Limit,
    /// HTTP/2: the client sent more frames of one kind than its limit allows.
    LimitFrames "limit-frames" Limit,
    /// HTTP: the head of a request was not complete within `head-timeout`.
    HeadTimeout "head-timeout" Timeout,
    /// HTTP: the backend did not begin to answer within `response-timeout`, connecting included.
    ResponseTimeout "response-timeout" Timeout,
    /// HTTP: a file did not come within `file-timeout`.
    FileLate "file-late" Timeout,
    /// HTTP: the request took longer than `request-timeout` as a whole.
    RequestTimeout "request-timeout" Timeout,
    /// No counted byte passed for `idle-timeout`.
    IdleTimeout "idle-timeout" Timeout,
    /// The connection lasted `max-duration`.
    MaxDuration "max-duration" Timeout,
    /// We were stopping, and `drain-timeout` was over.
    DrainCut "drain-cut" Us,
    /// An operator closed this connection, by `evenkeel connections close` or the admin API.
    ClosedByOperator "closed-by-operator" Us,
    /// We had no descriptor, memory or source port for the backend's side.
    OutOfResources "out-of-resources" Us,
    /// HTTP: the disk of a file reported a fault, or the file became shorter while it was sent.
    FileBroken "file-broken" Us,
    /// A fault in Evenkeel ended this connection; the log has the place. Please report it.
    InternalError "internal-error" Us,
}

/// The side whose doing an end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Whoever connected to us.
    Client,
    /// The server behind us.
    Backend,
    /// A configured limit.
    Limit,
    /// A configured time.
    Timeout,
    /// Evenkeel or the machine it runs on.
    Us,
}

impl Side {
    /// The word in the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Backend => "backend",
            Side::Limit => "limit",
            Side::Timeout => "timeout",
            Side::Us => "us",
        }
    }
}

/// How long each phase of a connection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Phases {
    /// Waiting for a place at a backend.
    pub(crate) queue: Option<Duration>,
    /// Connecting to the backend that was used, failed tries included.
    pub(crate) connect: Option<Duration>,
    /// From accept to the backend's first byte.
    pub(crate) first_byte: Option<Duration>,
    /// From accept to the end.
    pub(crate) total: Duration,
}

/// What a record says of an HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct RequestLine {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) host: String,
    /// With the query, as it was sent.
    pub(crate) target: String,
    pub(crate) version: Cow<'static, str>,
    /// The status the client was answered with; none when it was not answered.
    pub(crate) status: Option<u16>,
    pub(crate) user_agent: Option<String>,
    pub(crate) referer: Option<String>,
    /// Further headers that the format of the access log asks for, by their names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// The record that every accepted connection leaves behind, exactly once; on HTTP, every request leaves one too.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// When the connection was accepted.
    pub(crate) at: SystemTime,
    /// Who connected.
    pub(crate) client: ClientAddress,
    /// The listener's name.
    pub(crate) listener: Arc<str>,
    /// The upstream's name.
    pub(crate) upstream: Arc<str>,
    /// The backend's address, when one was connected.
    pub(crate) backend: Option<Arc<str>>,
    /// Why it ended.
    pub(crate) why: Why,
    /// What the system said, for failures to connect.
    pub(crate) detail: Option<String>,
    /// Bytes from client to backend.
    pub(crate) bytes_up: u64,
    /// Bytes from backend to client.
    pub(crate) bytes_down: u64,
    /// How long each phase took.
    pub(crate) phases: Phases,
    /// Backends tried, the one used included.
    pub(crate) tried: u32,
    /// The name that a TLS client asked for.
    pub(crate) name: Option<Arc<str>>,
    /// The certificate that the client has shown.
    pub(crate) certificate: Option<Arc<Shown>>,
    /// The request, for a record of one.
    pub(crate) request: Option<Box<RequestLine>>,
}

impl Ended {
    /// About how many bytes it takes while it waits to be written.
    pub(crate) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let request = self.request.as_ref().map_or(0, |request| {
            let RequestLine { method, host, target, headers, user_agent, referer, .. } = &**request;
            let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            let said = method.len() + host.len() + target.len() + text(user_agent) + text(referer);
            size_of::<RequestLine>() + headers + said
        });
        size_of::<Ended>() + text(&self.detail) + request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_in_the_docs() {
        let page = include_str!("../../docs/why-did-it-end.md");
        for why in Why::ALL {
            let heading = format!("### `{}` ({})", why.as_str(), why.side().as_str());
            assert!(page.contains(&heading), "docs/why-did-it-end.md has no section {heading:?}");
        }
        let headings = page.lines().filter(|line| line.starts_with("### `")).count();
        assert_eq!(
            headings,
            Why::ALL.len(),
            "docs/why-did-it-end.md explains reasons that do not exist"
        );
    }
}
