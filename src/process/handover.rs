//! From one process to the next without an end: the old one starts the new one, hands it its listening sockets, what it knows of
//! backends, and then its connections, a batch at a time. Whatever fails on the way, the old one goes on as before.
//!
//! They talk over a pair of SEQPACKET sockets that the new one inherits as its standard input, so that nobody else can. Old and new
//! may be of different versions: a word that is not known is passed over, as are parts of a word, and what is missing has a
//! default. `ARCHITECTURE.md` draws the conversation.

pub(super) mod channel;
pub(super) mod give;
pub(super) mod take;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::Handed;
use crate::upstream::UpstreamPast;

/// The version of the conversation. It changes only where an older process could no longer make sense of what is said.
const VERSION: u32 = 1;

/// Connections handed over at a time: those of a batch rest until all of it has arrived.
const BATCH: usize = 64;

/// Bytes of a connection sent at a time; a datagram on a Unix socket has a limit (net.core.wmem_default).
const PIECE: usize = 64 * 1024;

/// Backends told of at a time.
const BACKENDS_AT_A_TIME: usize = 100;

/// How long the new process may take to read its config and to make everything ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long it may take over an answer once it is ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the two processes say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Word {
    /// Old: who it is. The first word.
    Hello {
        #[serde(default)]
        version: u32,
        #[serde(default)]
        program: String,
        /// The soft limit of descriptors before it was raised.
        #[serde(default)]
        descriptors: Option<u64>,
    },
    /// Old: a listening socket, whose it is and as what it stands in the config.
    Listener {
        section: String,
        wanted: String,
        #[serde(default)]
        is_lent: bool,
    },
    /// Old: what is known of an upstream, or of a part of its backends.
    Upstream(UpstreamPast),
    /// Old: that was all; now make ready.
    Prepare,
    /// New: it has the config and the listeners, and could begin at once.
    Ready {
        #[serde(default)]
        version: u32,
        #[serde(default)]
        program: String,
    },
    /// New: it cannot begin.
    Refused { why: String },
    /// Old: accept from now on.
    Accept,
    /// New: it accepts.
    Accepting,
    /// Old: a connection, with its two sockets. So many bytes of each direction follow.
    Connection {
        handed: Box<Handed>,
        #[serde(default)]
        up: usize,
        #[serde(default)]
        down: usize,
    },
    /// Old: bytes of the last connection, upwards first.
    Bytes,
    /// Old: that was a batch of so many.
    Batch {
        count: usize,
        #[serde(default)]
        number: u64,
    },
    /// New: it has the batch of this number, but for those that it cannot carry on, by their places in it.
    Held {
        #[serde(default)]
        refused: Vec<usize>,
        #[serde(default)]
        number: u64,
    },
    /// Old: the batch is yours.
    Commit,
    /// Old: forget the batch.
    Abandon,
    /// Old: what can go has gone; what is left ends here.
    Settled,
    /// What a later version says.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_says_is_passed_over() {
        let word = |text: &str| serde_json::from_str::<Word>(text).unwrap();
        assert!(matches!(word(r#"{"word":"sing","song":"la"}"#), Word::Unknown));
        let known = word(r#"{"word":"listener","section":"tcp.a","wanted":":80","colour":"red"}"#);
        assert!(matches!(known, Word::Listener { .. }));
    }

    /// As written by the first version that handed over. It must be readable for ever.
    const FIRST_CONNECTION: &str = r#"{"word":"connection","handed":{"listener":"public","client":{"ip":"127.0.0.1:4000"},"carried-on":{"upstream":"app","backend":{"ip":"127.0.0.1:9001"},"relay":{"up":{"carried":7,"state":"open"},"down":{"carried":9,"state":"ending"}}}}}"#;

    #[test]
    fn connections_of_the_first_version_are_understood() {
        let Word::Connection { handed, up: 0, down: 0 } =
            serde_json::from_str(FIRST_CONNECTION).unwrap()
        else {
            panic!("it is a connection");
        };
        assert_eq!(handed.listener, "public");
        assert_eq!(handed.carried_on.unwrap().upstream, "app");
    }

    #[test]
    fn upstreams_of_the_first_version_are_understood() {
        let text = r#"{"word":"upstream","name":"app","age":{"secs":9,"nanos":0},"ticket":5,"backends":[[{"ip":"127.0.0.1:9001"},{"connections":3,"verdict":{"healthy":false}}]]}"#;
        let Word::Upstream(past) = serde_json::from_str(text).unwrap() else {
            panic!("it is an upstream");
        };
        assert_eq!((past.name.as_str(), past.backends.len()), ("app", 1));
    }
}
