//! Why something did not work: which step, at whose address, and whether a repeat is safe. Causes are kept as values, so
//! that a caller decides by them and not by words.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_wire::PacketRefusal;

use crate::codec::PacketError;

/// What went wrong.
///
/// Each says the step and the culprit: `connect to 10.0.0.2:80: refused after 3 ms`. [`Error::is_timeout`] tells time
/// limits from other failures, [`Error::was_sent`] whether the packet may have reached somebody.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be: a framing that contradicts itself, a certificate that cannot be read, no address.
    Unusable(String),
    /// Nobody could be connected to: every try, in order.
    Connect(Vec<Unreached>),
    /// What was to be sent is not one packet of this framing. Nothing was sent.
    Refused(PacketRefusal),
    /// A queue is full: packets that nobody has received, requests that were given up and never answered, or, of a
    /// [`Remote`](crate::Remote), bytes to send. Nothing was sent, unless [`Error::was_sent`] says so.
    Full {
        /// Which one.
        queue: &'static str,
        /// Whether the packet may have been sent.
        sent: bool,
    },
    /// A time limit of the caller's passed. The connection goes on.
    Timeout {
        /// What was waited for.
        step: Step,
        /// The limit.
        after: Duration,
        /// Whether the packet may have been sent.
        sent: bool,
    },
    /// The connection broke.
    Lost {
        /// Its other end.
        peer: SocketAddr,
        /// What was under way.
        step: Step,
        /// What the system, or TLS, said.
        cause: io::Error,
        /// Whether the packet may have been sent.
        sent: bool,
    },
    /// The peer sent what is no packet. The connection is closed.
    BadPacket {
        /// Who it was.
        peer: SocketAddr,
        /// What is wrong with it.
        refusal: PacketRefusal,
        /// Whether the packet may have been sent.
        sent: bool,
    },
    /// The peer ended the connection where more was to come.
    Ended {
        /// Who it was.
        peer: SocketAddr,
        /// Whether a packet had begun that is not whole.
        within_packet: bool,
        /// Whether the packet may have been sent.
        sent: bool,
    },
    /// This side is closed: it was finished or closed by the caller, or lost before, and is not to be connected again.
    Closed,
}

/// A step of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Looking up the name.
    LookUp,
    /// Connecting by TCP.
    Connect,
    /// The handshake of TLS.
    Tls,
    /// Sending a packet.
    Send,
    /// Receiving one.
    Receive,
    /// Awaiting the reply to a request.
    Reply,
}

/// One address that could not be connected to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unreached {
    /// As it was given: `db.example:5432`.
    pub address: String,
    /// Which of its IP addresses it was, once they were known.
    pub ip: Option<SocketAddr>,
    /// How far it came.
    pub step: Step,
    /// What was said; none when the time was up.
    pub cause: Option<io::Error>,
    /// How long this took.
    pub after: Duration,
}

impl Error {
    /// Whether time was up, and nothing else went wrong. Of several addresses: for all of them.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::Timeout { .. } => true,
            Error::Connect(tries) => tries.iter().all(|one| one.cause.is_none()),
            Error::Unusable(_) | Error::Refused(_) | Error::Full { .. } | Error::Closed => false,
            Error::Lost { .. } | Error::BadPacket { .. } | Error::Ended { .. } => false,
        }
    }

    /// Whether the packet of the call that failed may have reached the peer, or still may. If not, a repeat is safe
    /// whatever the packet does.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Error::Unusable(_) | Error::Connect(_) | Error::Refused(_) | Error::Closed => false,
            Error::Full { sent, .. }
            | Error::Timeout { sent, .. }
            | Error::Lost { sent, .. }
            | Error::BadPacket { sent, .. }
            | Error::Ended { sent, .. } => *sent,
        }
    }

    /// The same error, of a call whose packet was under way.
    pub(crate) fn after_sending(mut self) -> Error {
        match &mut self {
            Error::Unusable(_) | Error::Connect(_) | Error::Refused(_) | Error::Closed => {}
            Error::Full { sent, .. }
            | Error::Timeout { sent, .. }
            | Error::Lost { sent, .. }
            | Error::BadPacket { sent, .. }
            | Error::Ended { sent, .. } => *sent = true,
        }
        self
    }

    /// What a codec said, at this step with this peer.
    pub(crate) fn at(step: Step, peer: SocketAddr, error: PacketError) -> Error {
        match error {
            PacketError::Io(cause) => Error::Lost { peer, step, cause, sent: false },
            PacketError::Refused(refusal) => Error::BadPacket { peer, refusal, sent: false },
            PacketError::EndedWithin => Error::Ended { peer, within_packet: true, sent: false },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unusable(what) => f.write_str(what),
            Error::Connect(tries) => {
                for (n, one) in tries.iter().enumerate() {
                    write!(f, "{}{one}", if n == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Error::Refused(refusal) => write!(f, "send: {refusal}"),
            Error::Full { queue, .. } => write!(f, "the queue of {queue} is full"),
            Error::Timeout { step, after, .. } => {
                write!(f, "{step}: not done within {}", Took(*after))
            }
            Error::Lost { peer, step, cause, .. } => {
                write!(f, "{step} {} {peer}: {}", step.preposition(), words(cause))
            }
            Error::BadPacket { peer, refusal, .. } => write!(f, "receive from {peer}: {refusal}"),
            Error::Ended { peer, within_packet: true, .. } => {
                write!(f, "receive from {peer}: it ended the connection within a packet")
            }
            Error::Ended { peer, .. } => {
                write!(f, "receive from {peer}: it ended the connection before it answered")
            }
            Error::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect(tries) => tries.last().map(|one| one as _),
            Error::Refused(refusal) | Error::BadPacket { refusal, .. } => Some(refusal),
            Error::Lost { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.step, self.step.preposition(), self.address)?;
        match self.ip {
            Some(ip) if ip.to_string() != self.address => write!(f, " ({ip})")?,
            _ => {}
        }
        match &self.cause {
            Some(cause) => write!(f, ": {} after {}", words(cause), Took(self.after)),
            None => write!(f, ": no answer within {}", Took(self.after)),
        }
    }
}

impl std::error::Error for Unreached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

impl Step {
    fn preposition(self) -> &'static str {
        match self {
            Step::LookUp => "of",
            Step::Connect | Step::Send => "to",
            Step::Tls => "with",
            Step::Receive | Step::Reply => "from",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::LookUp => "look-up",
            Step::Connect => "connect",
            Step::Tls => "TLS handshake",
            Step::Send => "send",
            Step::Receive => "receive",
            Step::Reply => "await a reply",
        })
    }
}

/// A time to be read by people: whole milliseconds, or microseconds of what is shorter.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => write!(f, "{} us", self.0.as_micros()),
            milliseconds => write!(f, "{milliseconds} ms"),
        }
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "reset by it".to_owned(),
        _ => error.to_string(),
    }
}
