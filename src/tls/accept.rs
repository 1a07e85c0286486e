//! The server's side of a handshake: what a listener offers, and how long a client may take to agree.
//! It must never let a byte of early data in (0-RTT can be replayed), and never outlast its time.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    Accepted as Hello, Acceptor as Greeter, ClientHello, UnbufferedServerConnection,
};
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::sync::Semaphore;

use super::Settings;
use super::acme;
use super::clients::Auth;
use super::expiry::Expiry;
use super::files::Flaw;
use super::offer::{Made, Offer};
use super::pace::{Pace, Paced};
use super::shown::Shown;
use super::tickets::TicketKeys;
use super::watch::{Stamp, stamps};
use crate::link::{Handshake, Link};
use crate::socket::Socket;

/// The alert of a server that knows no such name (RFC 6066 3): unrecognized_name, fatal, in a record of its own.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Takes clients of one listener through their handshakes.
#[derive(Debug)]
pub(crate) struct Acceptor {
    settings: Settings,
    first_read: Vec<Stamp>,
    keys: Arc<TicketKeys>,
    offer: ArcSwap<Offer>,
    /// Places for handshakes.
    places: Semaphore,
}

/// A client that is through its handshake.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) link: Link,
    pub(crate) agreed: Agreed,
}

/// What a handshake came to.
#[derive(Debug)]
pub(crate) struct Agreed {
    offer: Arc<Offer>,
    terms: usize,
    /// The name that the client asked for.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) version: &'static str,
    pub(crate) suite: &'static str,
    /// The client's certificate, if it has shown one.
    pub(crate) shown: Option<Arc<Shown>>,
}

/// Why there is no secure connection.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The client ended before its first byte: a health check, or a change of mind.
    Silent,
    /// The client does not speak TLS, but something that begins with a capital letter, as HTTP does; or anything else,
    /// where that is allowed. Nothing has been read from it.
    Plain(Socket),
    /// It was not done after this time.
    Late(Duration),
    /// It was an authority that looked whether a name is ours, and has seen it.
    Challenged,
    /// It asked for a name that is not to be had here.
    UnknownName(Option<String>),
    /// The handshake itself, with the cause as rustls says it.
    Handshake(io::Error),
}

impl Acceptor {
    /// Reads the certificates and everything else that stands in files, and says what is out of date.
    pub(crate) fn load(settings: &Settings) -> Result<Acceptor, Flaw> {
        // Before they are read: what changes meanwhile is read again.
        let first_read = stamps(&settings.files());
        let keys = Arc::new(TicketKeys::load(settings.ticket_keys.as_deref())?);
        let Made { offer, .. } = Offer::load(settings, &keys)?;
        Ok(Acceptor {
            settings: settings.clone(),
            first_read,
            keys,
            offer: ArcSwap::from_pointee(offer),
            places: Semaphore::new(settings.handshakes_max),
        })
    }

    /// What a client would be shown that asks for this name, and whether it has to show something itself; none if it is refused.
    pub(crate) fn would_show(&self, name: Option<&str>) -> Option<(Option<Shown>, Auth)> {
        self.offer.load().would_show(name)
    }

    /// Whether a request for this host may come over a connection that was opened for this name.
    pub(crate) fn covers(&self, name: Option<&str>, host: &[u8]) -> bool {
        let offer = self.offer.load();
        offer.terms_for(name).is_some_and(|terms| offer.covers(terms, host))
    }

    /// Whether clients in clear are served too.
    pub(crate) fn allows_plain(&self) -> bool {
        self.settings.allow_plain
    }

    /// What it shows its clients now, and until when.
    pub(crate) fn certificates(&self) -> Arc<[Expiry]> {
        self.offer.load().expiries()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn first_read(&self) -> &[Stamp] {
        &self.first_read
    }

    pub(super) fn keys(&self) -> &TicketKeys {
        &self.keys
    }

    pub(super) fn offer(&self) -> Arc<Offer> {
        self.offer.load_full()
    }

    /// Reads all files anew. If one cannot be used, everything stays as it is.
    pub(super) fn reload(&self) -> Result<Vec<String>, Flaw> {
        let Made { offer, out_of_date } = Offer::load(&self.settings, &self.keys)?;
        offer.may_follow(&self.offer.load())?;
        self.keys.reload()?;
        self.offer.store(Arc::new(offer));
        Ok(out_of_date.into_iter().map(|(_, said)| said).collect())
    }

    /// Goes through the handshake with a client that has just been let in.
    pub(crate) async fn accept(&self, socket: Socket, pace: &Rc<Pace>) -> Result<Accepted, Failed> {
        let timeout = self.settings.handshake_timeout;
        let handshake = tokio::time::timeout(timeout, async {
            let agreed_on = match self.settings.start_tls {
                Some(start_tls) => start_tls.agree(&socket).await.map_err(Failed::Handshake)?,
                None => false,
            };
            let mut first = [0];
            let arrived = poll_fn(|cx| socket.poll_peek_beyond(cx, 0, &mut first)).await;
            match arrived.map_err(Failed::Handshake)?.count {
                0 => return Err(Failed::Silent),
                // A record begins with 22 (RFC 8446 5.1), a request with its method.
                _ if first[0] == 22 => {}
                // Whoever has asked for TLS may not go on without it.
                _ if agreed_on => {}
                _ if self.settings.allow_plain || first[0].is_ascii_uppercase() => {
                    return Err(Failed::Plain(socket));
                }
                _ => {}
            }
            let start = Start::greet(socket).await.map_err(Failed::Handshake)?;
            // Whoever has not said all of its hello takes no place. It is never closed.
            let _place = self.places.acquire().await;
            Paced::new(self.handshake(start), pace).await
        });
        handshake.await.unwrap_or(Err(Failed::Late(timeout)))
    }

    async fn handshake(&self, start: Start) -> Result<Accepted, Failed> {
        if let Some(acme::ALPN) = only_protocol(&start.client_hello()) {
            return Err(self.be_challenged(start).await);
        }
        let offer = self.offer.load_full();
        let name = start.client_hello().server_name().map(str::to_owned);
        let number = offer.terms_for(name.as_deref());
        let Some((number, terms)) = number.and_then(|n| offer.terms(n).map(|terms| (n, terms)))
        else {
            let Start { socket, .. } = start;
            // Nothing has been sent yet: there is room for it.
            let _ = socket.send_first(&UNRECOGNIZED_NAME);
            return Err(Failed::UnknownName(name));
        };
        let done = start.go_on(Arc::clone(&terms.config)).await;
        let done = done.map_err(Failed::Handshake)?;
        let session = done.state();
        let chain = session.peer_certificates();
        if let Some(clients) = &terms.clients
            && session.handshake_kind() == Some(HandshakeKind::Resumed)
        {
            clients
                .judge_again(chain)
                .map_err(|error| Failed::Handshake(io::Error::other(error)))?;
        }
        let shown = chain.and_then(<[_]>::first).and_then(Shown::of).map(Arc::new);
        let agreed = Agreed {
            name: name.map(Arc::from),
            version: version_name(session.protocol_version()),
            suite: suite_name(session.negotiated_cipher_suite().map(|suite| suite.suite())),
            terms: number,
            shown,
            offer: Arc::clone(&offer),
        };
        let secured = done.into_secured().map_err(Failed::Handshake)?;
        Ok(Accepted { link: Link::Secured(Box::new(secured)), agreed })
    }
}

impl Acceptor {
    /// Shows an authority of ACME the certificate that proves that a name is ours (RFC 8737 3).
    async fn be_challenged(&self, start: Start) -> Failed {
        let name = start.client_hello().server_name().map(str::to_owned);
        let states = self.settings.acme_states();
        let asked = name.clone().unwrap_or_default();
        let found = move || acme::tls_identity(&states, &asked);
        let Ok(Some(identity)) = tokio::task::spawn_blocking(found).await else {
            let _ = start.socket.send_first(&UNRECOGNIZED_NAME);
            return Failed::UnknownName(name);
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let config = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(error) => return Failed::Handshake(io::Error::other(error)),
        };
        let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![acme::ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        match start.go_on(Arc::new(config)).await.and_then(Handshake::into_secured) {
            Ok(mut secured) => {
                let _ = poll_fn(|cx| secured.poll_close_notify(cx)).await;
                Failed::Challenged
            }
            Err(error) => Failed::Handshake(error),
        }
    }
}

/// As OpenSSL calls it, and so everybody who reads PROXY headers.
fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

/// As IANA calls it.
fn suite_name(suite: Option<CipherSuite>) -> &'static str {
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.and_then(|suite| suite.as_str()).unwrap_or_default(),
    }
}

/// A client that has said its hello.
struct Start {
    socket: Socket,
    hello: Hello,
    /// All that was read, the hello first.
    arrived: Vec<u8>,
}

impl Start {
    /// Reads the hello, which rustls takes up to 64 KiB of.
    async fn greet(socket: Socket) -> io::Result<Start> {
        let mut greeter = Greeter::default();
        let mut arrived = Vec::new();
        loop {
            let known = arrived.len();
            poll_fn(|cx| {
                arrived.resize(known + 2048, 0);
                let count = ready!(socket.poll_read(cx, &mut arrived[known..]));
                arrived.truncate(known + *count.as_ref().unwrap_or(&0));
                Poll::Ready(count.map(drop))
            })
            .await?;
            let mut fresh = &arrived[known..];
            if fresh.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while !fresh.is_empty() {
                if greeter.read_tls(&mut fresh)? == 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                match greeter.accept() {
                    Ok(Some(hello)) => return Ok(Start { socket, hello, arrived }),
                    Ok(None) => {}
                    Err((error, mut alert)) => {
                        let mut said = Vec::new();
                        let _ = alert.write_all(&mut said);
                        let _ = socket.send_first(&said);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
            }
        }
    }

    fn client_hello(&self) -> ClientHello<'_> {
        self.hello.client_hello()
    }

    async fn go_on(
        self,
        config: Arc<ServerConfig>,
    ) -> io::Result<Handshake<UnbufferedServerConnection>> {
        let Start { socket, hello, arrived } = self;
        drop(hello);
        Handshake::accept(socket, config, arrived).await
    }
}

fn only_protocol<'h>(hello: &ClientHello<'h>) -> Option<&'h [u8]> {
    let mut protocols = hello.alpn()?;
    protocols.next().filter(|_| protocols.next().is_none())
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Silent => f.write_str("nothing came"),
            Failed::Plain(_) => f.write_str("it does not speak TLS"),
            Failed::Late(most) => write!(f, "the handshake was not done after {most:?}"),
            Failed::Challenged => f.write_str("an authority looked whether the name is ours"),
            Failed::UnknownName(Some(name)) => write!(f, "there is no certificate for {name:?}"),
            Failed::UnknownName(None) => f.write_str("it asked for no name"),
            Failed::Handshake(error) => error.fmt(f),
        }
    }
}

impl Agreed {
    /// Whether a request for this host may come over this connection: not where its name asks something else of clients
    /// (RFC 9110 15.5.20).
    pub(crate) fn covers(&self, host: &[u8]) -> bool {
        self.offer.covers(self.terms, host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Demand, Files, Source, Version};

    #[test]
    fn early_data_is_off_and_tickets_are_on() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let files = Files { certificate, key, ocsp: None };
        let acceptor = Acceptor::load(&Settings {
            identities: vec![(Source::Files(files), Demand::default())],
            refuse_unknown_names: false,
            min_version: Version::Tls13,
            ticket_keys: None,
            handshake_timeout: Duration::from_secs(1),
            handshakes_max: 1,
            protocols: vec![b"http/1.1".to_vec()],
            allow_plain: false,
            start_tls: None,
        })
        .unwrap();
        let offer = acceptor.offer();
        let config = &offer.terms(0).unwrap().config;
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ticketer.enabled());
        let groups = &config.crypto_provider().kx_groups;
        assert_eq!(groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
