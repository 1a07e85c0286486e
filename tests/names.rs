//! Backend names: every address behind a name is a backend, answers are asked for again by their TTL, failures change nothing.
//! A small DNS server of our own answers here, and can be told to change its mind, to fail or to be silent.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};

use crate::support::backend::{Backend, echo, fresh_loopback};
use crate::support::client::{assert_echo, connect, visit};
use crate::support::{config_with, packets, serve, until, until_ended};

#[derive(Debug, Clone)]
enum Mood {
    Answer {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    /// Response codes of RFC 1035, section 4.1.1: 2 the server failed, 3 there is no such name.
    Code(u8),
    Silent,
}

struct NameServer {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(mood: Mood) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("a bound address");
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
        let (its_mood, its_asked) = (Arc::clone(&mood), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                its_asked.fetch_add(1, SeqCst);
                let mood = its_mood.lock().expect("no panic").clone();
                if let Some(reply) = reply(&query[..length], &mood) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        NameServer { address, mood, asked }
    }

    fn answering(addresses: &[IpAddr], ttl: u32) -> NameServer {
        NameServer::start(Mood::Answer { addresses: addresses.to_vec(), ttl })
    }

    fn change(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// A proxy that asks this server for the addresses of its only backend name.
    fn serve(&self, port: u16) -> (Running, SocketAddr) {
        self.serve_with(port, "")
    }

    /// The same with further lines of its listener.
    fn serve_with(&self, port: u16, listener: &str) -> (Running, SocketAddr) {
        let process = format!("{listener}\n[process]\nnameservers = [\"{}\"]\n", self.address);
        let name = format!("\"backends.example:{port}\"");
        serve(&config_with(&name, "queue-timeout = \"300ms\"\nretries = 2", &process))
    }
}

/// A reply in the form of RFC 1035, section 4.1: header, the question again, and an answer for each address that fits.
fn reply(query: &[u8], mood: &Mood) -> Option<Vec<u8>> {
    let name_length = query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..12 + name_length + 4)?;
    let kind = question[name_length + 1];
    let (code, records, ttl) = match mood {
        Mood::Silent => return None,
        Mood::Code(code) => (*code, Vec::new(), 0),
        Mood::Answer { addresses, ttl } => {
            // Types of records: 1 is A, 28 is AAAA.
            let fits = |address: &&IpAddr| kind == if address.is_ipv4() { 1 } else { 28 };
            (0, addresses.iter().filter(fits).collect(), *ttl)
        }
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    reply.extend(question);
    for address in records {
        reply.extend([0xc0, 12, 0, kind, 0, 1]);
        reply.extend(ttl.to_be_bytes());
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        reply.extend((bytes.len() as u16).to_be_bytes());
        reply.extend(bytes);
    }
    Some(reply)
}

/// Two backends with different addresses and the same port.
fn twins() -> (Backend, Backend) {
    let a = Backend::named("A");
    let b = Backend::named_at(SocketAddr::new(fresh_loopback(), a.address.port()), "B");
    (a, b)
}

fn answer(addresses: &[IpAddr], ttl: u32) -> Mood {
    Mood::Answer { addresses: addresses.to_vec(), ttl }
}

#[test]
fn every_address_of_both_families_behind_a_name_is_a_backend() {
    let (a, b) = twins();
    let port = a.address.port();
    let c = Backend::named_at((Ipv6Addr::LOCALHOST, port).into(), "C");
    let addresses = [&a, &b, &c].map(|backend| backend.address.ip());
    let server = NameServer::answering(&addresses, 60);
    let (running, door) = server.serve(port);
    assert!(!visit(door).is_empty(), "a client that comes early waits for the first answer");
    until("all are known", || running.backends().len() == 3);
    let met: BTreeSet<_> = (0..9).map(|_| visit(door)).collect();
    assert_eq!(met, BTreeSet::from(["A", "B", "C"].map(String::from)));
}

#[test]
fn a_name_that_cannot_be_looked_up_never_blocks_the_start() {
    for mood in [Mood::Silent, Mood::Code(2), Mood::Code(3), answer(&[], 60)] {
        let backend = Backend::named("A");
        let server = NameServer::start(mood.clone());
        let began = Instant::now();
        let (running, door) = server.serve(backend.address.port());
        assert!(began.elapsed() < Duration::from_secs(1), "{mood:?}: {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(visit(door), "", "{mood:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{mood:?}: {:?}", began.elapsed());
        until_ended(&running, Why::NoBackend, 1);
        server.change(answer(&[backend.address.ip()], 60));
        crate::support::until_within(Duration::from_secs(15), "the name resolves", || {
            visit(door) == "A"
        });
    }
}

#[test]
fn a_changed_answer_is_followed_when_its_ttl_is_over() {
    let (a, b) = twins();
    let server = NameServer::answering(&[a.address.ip()], 1);
    let (running, door) = server.serve(a.address.port());
    assert_eq!(visit(door), "A");
    let kept = connect(door);
    assert_eq!(crate::support::client::line(&kept), "A");
    server.change(answer(&[b.address.ip()], 300));
    let began = Instant::now();
    until("the new address is used", || visit(door) == "B");
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    assert_eq!(running.backends().len(), 1, "the old address is no backend any more");
    until("who was connected to it stays connected", || running.counts().open == 1);
    let asked = server.asked();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.asked(), asked, "an answer with a long TTL is not asked for again");
}

#[test]
fn a_ttl_of_zero_is_asked_for_once_a_second_and_not_more() {
    let backend = Backend::named("A");
    let server = NameServer::answering(&[backend.address.ip()], 0);
    let (_running, door) = server.serve(backend.address.port());
    assert_eq!(visit(door), "A");
    let (before, began) = (server.asked(), Instant::now());
    until("it is asked twice again", || server.asked() >= before + 4);
    let took = began.elapsed().as_secs_f64();
    assert!((0.9..4.0).contains(&took), "two rounds of two questions took {took} s");
}

#[test]
fn a_failed_look_up_keeps_the_last_answer() {
    for failure in [Mood::Code(2), Mood::Code(3), Mood::Silent, answer(&[], 1)] {
        let backend = Backend::named("A");
        let server = NameServer::answering(&[backend.address.ip()], 1);
        let (running, door) = server.serve(backend.address.port());
        assert_eq!(visit(door), "A");
        server.change(failure.clone());
        let before = server.asked();
        until("it has asked again in vain", || server.asked() >= before + 4);
        assert_eq!(visit(door), "A", "{failure:?}");
        assert_eq!(running.backends().len(), 1, "{failure:?}");
    }
}

#[test]
fn a_family_that_a_name_no_longer_has_is_forgotten() {
    let a = Backend::named("A");
    let port = a.address.port();
    let both = [a.address.ip(), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let server = NameServer::answering(&both, 1);
    let (running, _door) = server.serve(port);
    until("both are known", || running.backends().len() == 2);
    server.change(answer(&[a.address.ip()], 1));
    until("only one is left", || running.backends().len() == 1);
    assert_eq!(running.backends()[0].address, a.address.to_string());
}

#[test]
fn localhost_needs_no_name_server() {
    let backend = Backend::serving_at("127.0.0.1:0".parse().unwrap(), echo);
    let name = format!("\"localhost:{}\"", backend.address.port());
    let (_running, door) = serve(&config_with(&name, "", ""));
    assert_echo(connect(door), b"hello");
}

#[test]
fn nine_thousand_packets_are_answered_in_order_while_one_backend_leaves_and_another_dies() {
    let stays = packets::answering("A", Duration::ZERO);
    let beside = |stays: &Backend| SocketAddr::new(fresh_loopback(), stays.address.port());
    let leaves = packets::answering_at(beside(&stays), "B", Duration::ZERO);
    let dies = packets::dying_at(beside(&stays), "C", 1000);
    let all = [stays.address.ip(), leaves.address.ip(), dies.address.ip()];
    let server = NameServer::answering(&all, 1);
    let rules = format!("{}\nretry = \"idempotent\"", packets::BY_PACKET);
    let (running, door) = server.serve_with(stays.address.port(), &rules);
    until("all addresses are known", || running.backends().len() == 3);
    let mut client = connect(door);
    let before = packets::exchange(&mut client, 0..3000);
    assert!(packets::count(&before, 'B') >= 900, "{}", packets::count(&before, 'B'));
    server.change(answer(&[all[0], all[2]], 300));
    let mut sent = 3000;
    let mut during = String::new();
    while running.backends().len() == 3 {
        during += &packets::exchange(&mut client, sent..sent + 100);
        sent += 100;
    }
    let rest = sent.max(8000);
    let after = packets::exchange(&mut client, rest..rest + 1000);
    assert_eq!(packets::count(&after, 'B'), 0, "it has left");
    assert!(packets::count(&(before + &during + &after), 'C') > 0);
    assert_eq!(running.counts().open, 1, "and the client has not noticed");
}
