//! Why a handshake with a client came to nothing, sorted into a closed list that can be counted. What exactly was wrong stands in
//! the log; here it only matters whether to look at the clients, at their certificates or at our own settings.

use std::io;

use rustls::{AlertDescription, Error};

use super::Failed;

macro_rules! flaws {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal,)*) => {
        /// Why there is no secure connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum HandshakeFlaw {
            $($(#[doc = $doc])* $name,)*
        }

        impl HandshakeFlaw {
            /// Every one there is.
            pub(crate) const ALL: &[HandshakeFlaw] = &[$(HandshakeFlaw::$name),*];

            /// The word for it.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(HandshakeFlaw::$name => $text,)* }
            }
        }
    };
}

flaws! {
    /// It was not done within `handshake-timeout`.
    Late "late",
    /// The client does not speak TLS.
    NotTls "not-tls",
    /// There is no certificate for the name it asked for.
    UnknownName "unknown-name",
    /// No version of TLS, cipher or protocol that both sides know.
    NothingShared "nothing-shared",
    /// The client has to show a certificate, and has shown none.
    NoCertificate "no-certificate",
    /// The certificate of the client is not accepted.
    BadCertificate "bad-certificate",
    /// The client did not like ours, or something else, and said so by an alert.
    RefusedByClient "refused-by-client",
    /// The client ended the connection in the middle of it.
    Gone "gone",
    /// What the client said breaks the rules of TLS.
    BrokenRules "broken-rules",
    /// Anything else.
    Other "other",
}

impl HandshakeFlaw {
    /// What a failure counts as; none where nobody failed.
    pub(crate) fn of(failed: &Failed) -> Option<HandshakeFlaw> {
        Some(match failed {
            Failed::Silent | Failed::Challenged => return None,
            Failed::Plain(_) => HandshakeFlaw::NotTls,
            Failed::Late(_) => HandshakeFlaw::Late,
            Failed::UnknownName(_) => HandshakeFlaw::UnknownName,
            Failed::Handshake(error) => HandshakeFlaw::of_error(error),
        })
    }

    fn of_error(error: &io::Error) -> HandshakeFlaw {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match (cause, error.kind()) {
            (Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol), _) => {
                HandshakeFlaw::NothingShared
            }
            (Some(Error::NoCertificatesPresented), _) => HandshakeFlaw::NoCertificate,
            (Some(Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_)), _) => {
                HandshakeFlaw::BadCertificate
            }
            (Some(Error::AlertReceived(AlertDescription::ProtocolVersion)), _) => {
                HandshakeFlaw::NothingShared
            }
            (Some(Error::AlertReceived(_)), _) => HandshakeFlaw::RefusedByClient,
            (Some(_), _) => HandshakeFlaw::BrokenRules,
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe,
            ) => HandshakeFlaw::Gone,
            (None, io::ErrorKind::InvalidData) => HandshakeFlaw::BrokenRules,
            (None, _) => HandshakeFlaw::Other,
        }
    }
}
