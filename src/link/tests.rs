//! What a `Link` through TLS promises, tried against a client of rustls that runs on a thread of its own.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};

use super::secured::BATCH as HELD;
use super::*;

mod keys;

type Client = StreamOwned<ClientConnection, UnixStream>;

/// Runs `server` with a fresh connection, and `client` with its other side; gives what the client gave.
fn meet<T: Send + 'static>(
    client: impl FnOnce(Client) -> T + Send + 'static,
    server: impl AsyncFnOnce(Link, Other<T>),
) {
    let agreed = |mut stream: Client| {
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        client(stream)
    };
    meet_first(agreed, server);
}

/// The same with a client that has not begun its handshake.
fn meet_first<T: Send + 'static>(
    client: impl FnOnce(Client) -> T + Send + 'static,
    server: impl AsyncFnOnce(Link, Other<T>),
) {
    meet_with(&aws_lc_rs::default_provider(), ALL_VERSIONS, client, server);
}

/// The same with a client that knows no more than these suites and versions.
fn meet_with<T: Send + 'static>(
    provider: &CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    client: impl FnOnce(Client) -> T + Send + 'static,
    server: impl AsyncFnOnce(Link, Other<T>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async {
        let (config, root) = config();
        let session = session(root, provider.clone(), versions);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let other = Other(std::thread::spawn(move || client(StreamOwned::new(session, theirs))));
        let socket = Socket::adopt(ours.into()).unwrap();
        let done = Handshake::accept(socket, config, Vec::new()).await.unwrap();
        server(Link::Secured(Box::new(done.into_secured().unwrap())), other).await;
    };
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), limited).await.expect("within ten seconds");
    });
}

/// The thread of the client.
struct Other<T>(JoinHandle<T>);

impl<T: Send + 'static> Other<T> {
    async fn done(self) -> T {
        tokio::task::spawn_blocking(|| self.0.join().unwrap()).await.unwrap()
    }
}

fn config() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let root = made.cert.der().clone();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![root.clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    (Arc::new(config), root)
}

fn session(
    root: CertificateDer<'static>,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    ClientConnection::new(Arc::new(config), "a.test".try_into().unwrap()).unwrap()
}

async fn read(link: &mut Link, most: usize) -> io::Result<Vec<u8>> {
    let mut into = vec![0; most];
    let count = poll_fn(|cx| link.poll_read(cx, &mut into)).await?;
    into.truncate(count);
    Ok(into)
}

fn is_readable(link: &mut Link) -> bool {
    link.poll_readable(&mut nobody()).is_ready()
}

#[test]
fn what_was_decrypted_and_not_read_keeps_it_readable() {
    let client = |mut client: Client| {
        client.write_all(b"hello").unwrap();
        client
    };
    meet(client, async |mut link, other| {
        poll_fn(|cx| link.poll_readable(cx)).await.unwrap();
        assert_eq!(read(&mut link, 2).await.unwrap(), b"he");
        // The socket has nothing more; TLS has.
        assert!(link.socket().is_quiet());
        assert!(is_readable(&mut link));
        assert!(!link.is_quiet());
        assert_eq!(read(&mut link, 9).await.unwrap(), b"llo");
        assert!(!is_readable(&mut link));
        assert!(link.is_quiet());
        assert_eq!(link.protocol(), Some(b"http/1.1".as_slice()));
        drop(other.done().await);
    });
}

#[test]
fn an_end_that_was_told_is_an_end_and_no_longer_quiet() {
    let client = |mut client: Client| {
        client.conn.send_close_notify();
        client.flush().unwrap();
        client
    };
    meet(client, async |mut link, other| {
        let client = other.done().await;
        assert!(!link.is_quiet());
        assert_eq!(read(&mut link, 9).await.unwrap(), b"");
        assert_eq!(read(&mut link, 9).await.unwrap(), b"");
        drop(client);
    });
}

#[test]
fn a_stream_that_was_cut_off_is_an_error_however_it_was_noticed() {
    for look_first in [false, true] {
        let client = |mut client: Client| {
            client.write_all(b"half").unwrap();
            client
        };
        meet(client, async move |mut link, other| {
            assert_eq!(read(&mut link, 9).await.unwrap(), b"half");
            let client = other.done().await;
            client.sock.shutdown(std::net::Shutdown::Write).unwrap();
            if look_first {
                poll_fn(|cx| link.poll_readable(cx)).await.unwrap();
                assert!(!link.is_quiet());
            }
            let error = read(&mut link, 9).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
    }
}

#[test]
fn finishing_tells_the_peer_and_leaves_the_other_direction_open() {
    let client = |mut client: Client| {
        let mut answer = Vec::new();
        // Without the word for it, this is an error of rustls.
        client.read_to_end(&mut answer).unwrap();
        client.write_all(b"still here").unwrap();
        answer
    };
    meet(client, async |mut link, other| {
        poll_fn(|cx| link.poll_write(cx, b"last words")).await.unwrap();
        link.finish_writing();
        link.finish_writing();
        assert_eq!(read(&mut link, 99).await.unwrap(), b"still here");
        assert_eq!(other.done().await, b"last words");
    });
}

#[test]
fn two_pieces_are_one_record() {
    let client = |mut client: Client| {
        // Two tickets may come first; both are larger than what is sent here.
        loop {
            let mut head = [0; 5];
            client.sock.read_exact(&mut head).unwrap();
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            client.sock.read_exact(&mut vec![0; length]).unwrap();
            if length < 60 {
                return length;
            }
        }
    };
    meet(client, async |mut link, other| {
        let count =
            poll_fn(|cx| link.poll_write_two(cx, b"head", b"body of it", false)).await.unwrap();
        assert_eq!(count, 14);
        // A byte for the kind of content and 16 to prove it genuine (RFC 8446 5.2).
        assert_eq!(other.done().await, 14 + 17);
    });
}

#[test]
fn a_peer_that_does_not_read_makes_us_hold_two_records_and_no_more() {
    let (go, wait) = std::sync::mpsc::channel();
    let client = move |client: Client| {
        wait.recv().unwrap();
        client.sock.set_nonblocking(true).unwrap();
        let (mut sock, mut found) = (client.sock, Vec::new());
        // Only what the kernel has: the other side writes nothing meanwhile.
        let _ = sock.read_to_end(&mut found);
        found.len()
    };
    meet(client, async move |mut link, other| {
        let piece = vec![0; 100_000];
        let mut taken = 0;
        while let Poll::Ready(count) = link.poll_write(&mut nobody(), &piece) {
            taken += count.unwrap();
        }
        assert!(link.holds_back());
        for _ in 0..100 {
            assert!(link.poll_write(&mut nobody(), &piece).is_pending());
            assert!(link.poll_write_two(&mut nobody(), &piece, &piece, false).is_pending());
        }
        go.send(()).unwrap();
        let in_the_kernel = other.done().await;
        assert!(taken <= in_the_kernel + HELD, "{taken} taken, {in_the_kernel} passed on");
    });
}

#[test]
fn in_clear_nothing_is_held_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut link = Link::Plain(Socket::adopt(ours.into()).unwrap());
        poll_fn(|cx| link.poll_write_two(cx, b"he", b"llo", false)).await.unwrap();
        assert!(!link.holds_back() && link.protocol().is_none());
        link.finish_writing();
        let mut found = String::new();
        theirs.read_to_string(&mut found).unwrap();
        assert_eq!(found, "hello");
        drop(theirs);
        assert_eq!(read(&mut link, 9).await.unwrap(), b"");
    });
}

#[test]
fn all_that_a_client_has_to_say_may_come_with_the_end_of_its_handshake() {
    let client = |mut client: Client| {
        client.conn.write_tls(&mut client.sock).unwrap();
        while client.conn.is_handshaking() {
            client.conn.read_tls(&mut client.sock).unwrap();
            client.conn.process_new_packets().unwrap();
        }
        client.conn.writer().write_all(b"hello").unwrap();
        client.conn.send_close_notify();
        let mut all = Vec::new();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut all).unwrap();
        }
        client.sock.write_all(&all).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    };
    meet_first(client, async |mut link, other| {
        assert_eq!(read(&mut link, 9).await.unwrap(), b"hello");
        assert_eq!(read(&mut link, 9).await.unwrap(), b"");
        poll_fn(|cx| link.poll_write(cx, b"and you")).await.unwrap();
        link.finish_writing();
        assert_eq!(other.done().await, b"and you");
    });
}

#[test]
fn a_peer_that_reads_slowly_makes_us_hold_no_more_in_the_long_run() {
    const ALL: usize = 4_000_000;
    let client = |mut client: Client| {
        let (mut found, mut piece) = (0, vec![0; 3000]);
        while found < ALL {
            found += client.read(&mut piece).unwrap();
        }
        client
    };
    meet(client, async |mut link, other| {
        let piece = vec![7; 10_000];
        let mut taken = 0;
        while taken < ALL {
            taken += poll_fn(|cx| link.poll_write(cx, &piece)).await.unwrap();
            let Link::Secured(secured) = &link else { panic!() };
            assert!(secured.held() < 3 * HELD, "{} after {taken}", secured.held());
        }
        poll_fn(|cx| link.poll_flush(cx)).await.unwrap();
        drop(other.done().await);
    });
}
