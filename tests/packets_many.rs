//! More than one reply to a packet, and what may wait for a client that is slow, or for a backend that is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use evenkeel::Why;

use crate::support::backend::{Backend, fresh_loopback};
use crate::support::client::{Last, connect, read_to_last};
use crate::support::packets::{BY_PACKET, answering, frame, leave, next};
use crate::support::program::Program;
use crate::support::{config, serve, until, until_ended};

/// Up to the reply whose body begins with a dot.
const MANY: &str = "packet = { length = \"u32be\", max = \"2MB\" }\nbalance-per = \"packet\"\n\
                    replies = \"many\"\nlast-reply = { bytes = \".\", offset = 4 }";

/// Answers a packet with as many replies as its first byte says, and a last one. Each has the packet behind it.
fn telling(name: &'static str, pause: Duration) -> Backend {
    Backend::serving(move |mut stream| {
        while let Some(body) = next(&mut stream)? {
            for part in 0..body[0] {
                std::thread::sleep(pause);
                stream.write_all(&frame(&[&[part + b'a'], &body[..], name.as_bytes()].concat()))?;
            }
            stream.write_all(&frame(&[b".", &body[..], name.as_bytes()].concat()))?;
        }
        Ok(())
    })
}

/// Reads the replies to a packet, in order; gives who answered.
fn told(client: &mut TcpStream, packet: &[u8]) -> String {
    let mut names = String::new();
    for part in 0..=packet[0] {
        let reply = next(client).unwrap().expect("a reply");
        let first = if part == packet[0] { b'.' } else { part + b'a' };
        assert_eq!((reply[0], &reply[1..=packet.len()]), (first, packet));
        names.push_str(std::str::from_utf8(&reply[packet.len() + 1..]).unwrap());
    }
    names
}

#[test]
fn many_replies_to_each_packet_come_in_the_order_of_the_packets() {
    let backends = ["A", "B", "C"].map(|name| telling(name, Duration::ZERO));
    let addresses = backends.each_ref().map(|backend| backend.address);
    let (running, door) = serve(&config(&addresses, "", MANY));
    let mut client = connect(door);
    let packets: Vec<[u8; 2]> =
        (0..300_u32).map(|number| [(number % 7) as u8, number as u8]).collect();
    let (all, mut writer) = (packets.clone(), client.try_clone().unwrap());
    let sender = std::thread::spawn(move || {
        all.iter().for_each(|packet| writer.write_all(&frame(packet)).unwrap());
    });
    for packet in &packets {
        let names = told(&mut client, packet);
        assert!(names.chars().all(|name| names.starts_with(name)), "{names}: of one backend");
    }
    sender.join().unwrap();
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn replies_pass_as_they_come_and_each_has_the_time_of_one() {
    let backend = telling("A", Duration::from_millis(250));
    let upstream = "response-timeout = \"600ms\"";
    let (running, door) = serve(&config(&[backend.address], upstream, MANY));
    let mut client = connect(door);
    let began = Instant::now();
    client.write_all(&frame(&[5])).unwrap();
    assert_eq!(next(&mut client).unwrap().unwrap()[0], b'a');
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    for wanted in b"bcde." {
        assert_eq!(next(&mut client).unwrap().unwrap()[0], *wanted);
    }
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn many_replies_that_carry_an_id_come_as_they_come() {
    // A packet is a number of replies and an id, a reply its place and the id.
    let answering = |pause: u64| {
        Backend::serving(move |mut stream| {
            while let Some(body) = next(&mut stream)? {
                for part in (0..body[0]).map(|part| part + b'a').chain([b'.']) {
                    std::thread::sleep(Duration::from_millis(pause));
                    stream.write_all(&frame(&[part, body[1]]))?;
                }
            }
            Ok(())
        })
    };
    let (slow, fast) = (answering(150), answering(0));
    let rules = format!("{MANY}\nmatch = {{ offset = 5, size = 1 }}");
    let (running, door) = serve(&config(&[slow.address, fast.address], "", &rules));
    let mut client = connect(door);
    client.write_all(&[frame(&[2, 0]), frame(&[2, 1])].concat()).unwrap();
    let replies: Vec<_> = (0..6).map(|_| next(&mut client).unwrap().unwrap()).collect();
    let wanted = [(b'a', 1), (b'b', 1), (b'.', 1), (b'a', 0), (b'b', 0), (b'.', 0)];
    assert_eq!(replies, wanted.map(|(part, id)| vec![part, id]));
    leave(client, &running, Why::ClientFinished);
}

/// Answers the first packet of a connection in part, and resets; the others in full.
fn breaking(name: &'static str, breaks: usize) -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::serving(move |mut stream| {
        while let Some(body) = next(&mut stream)? {
            let is_first = count.fetch_add(1, SeqCst) < breaks;
            stream.write_all(&frame(&[b"a", &body[..], name.as_bytes()].concat()))?;
            if is_first {
                // What was sent must not be lost by the reset.
                std::thread::sleep(Duration::from_millis(200));
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            stream.write_all(&frame(&[b".", &body[..], name.as_bytes()].concat()))?;
        }
        Ok(())
    });
    (backend, asked)
}

#[test]
fn what_a_client_has_had_in_part_is_never_begun_again() {
    let (backend, asked) = breaking("B", 1);
    let rules = format!("{MANY}\nretry = \"idempotent\"\nerror-reply = \"hex:00000000\"");
    let (running, door) = serve(&config(&[backend.address], "retries = 3", &rules));
    let client = connect(door);
    (&client).write_all(&frame(b"\x01x")).unwrap();
    assert_eq!(read_to_last(&client), (frame(b"a\x01xB"), Last::Reset));
    until_ended(&running, Why::BackendReset, 1);
    assert_eq!(asked.load(SeqCst), 1);
}

#[test]
fn what_a_client_has_had_nothing_of_is_begun_again() {
    // The first packet takes so long that the second, which is lost in part, has to wait for it.
    let slow = telling("S", Duration::from_millis(600));
    let (breaks, asked) = breaking("B", 1);
    let rules = format!("{MANY}\nretry = \"idempotent\"");
    let (running, door) = serve(&config(&[slow.address, breaks.address], "retries = 3", &rules));
    let mut client = connect(door);
    client.write_all(&[frame(b"\x01x"), frame(b"\x01y")].concat()).unwrap();
    assert_eq!(told(&mut client, b"\x01x"), "SS");
    let names = told(&mut client, b"\x01y");
    assert!(names == "SS" || names == "BB", "{names}");
    assert!(asked.load(SeqCst) >= 1);
    leave(client, &running, Why::ClientFinished);
}

/// Answers each packet with a reply of so many bytes, once it is told to; counts the bytes that it could send.
fn sending(size: usize) -> (Backend, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let backend = Backend::serving(move |mut stream| {
        while next(&mut stream)?.is_some() {
            for piece in frame(&vec![b'F'; size]).chunks(16 * 1024) {
                stream.write_all(piece)?;
                count.fetch_add(piece.len(), SeqCst);
            }
        }
        Ok(())
    });
    (backend, sent)
}

fn told_to() -> (Backend, Sender<()>) {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::serving_at((fresh_loopback(), 0).into(), move |mut stream| {
        while next(&mut stream)?.is_some() {
            let _ = wait.lock().unwrap().recv();
            stream.write_all(&frame(b"S"))?;
        }
        Ok(())
    });
    (backend, go)
}

#[test]
fn replies_that_wait_for_a_slow_one_are_few_and_lose_nothing_by_it() {
    const SIZE: usize = 1_000_000;
    let (slow, go) = told_to();
    let (fast, sent) = sending(SIZE);
    let rules = format!("{BY_PACKET}\nbuffer-max = \"256KiB\"");
    let upstream = "response-timeout = \"30s\"";
    let (running, door) = serve(&config(&[slow.address, fast.address], upstream, &rules));
    let mut client = connect(door);
    // The slow one gets every other: the first of them holds up forty megabytes.
    (0..80).for_each(|_| client.write_all(&frame(b"x")).unwrap());
    let mut before = usize::MAX;
    until("the fast one to stop", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, sent.load(SeqCst)) == sent.load(SeqCst)
    });
    // What waits here, and what the kernel holds on the way.
    assert!(before < 20 * SIZE, "{before} bytes were taken from it");
    (0..40).for_each(|_| go.send(()).unwrap());
    for number in 0..80 {
        let wanted = if number % 2 == 0 { 1 } else { SIZE };
        assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(wanted), "{number}");
    }
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn a_client_that_does_not_read_for_a_while_gets_everything_later() {
    let (backend, sent) = sending(1_000_000);
    let upstream = "response-timeout = \"500ms\"";
    let (running, door) = serve(&config(&[backend.address], upstream, BY_PACKET));
    let mut client = connect(door);
    (0..40).for_each(|_| client.write_all(&frame(b"x")).unwrap());
    let mut before = usize::MAX;
    until("its backend to stop", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, sent.load(SeqCst)) == sent.load(SeqCst)
    });
    assert!(before < 30_000_000, "{before} bytes were taken for a client that does not read");
    // Much later than any reply may take.
    std::thread::sleep(Duration::from_millis(1200));
    for number in 0..40 {
        assert_eq!(
            next(&mut client).unwrap().map(|reply| reply.len()),
            Some(1_000_000),
            "{number}"
        );
    }
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn a_client_that_never_reads_is_ended_for_being_idle() {
    let (backend, _) = sending(1_000_000);
    let upstream = "response-timeout = \"300ms\"";
    let rules = format!("{BY_PACKET}\nidle-timeout = \"1s\"");
    let (running, door) = serve(&config(&[backend.address], upstream, &rules));
    let mut client = connect(door);
    (0..40).for_each(|_| client.write_all(&frame(b"x")).unwrap());
    until_ended(&running, Why::IdleTimeout, 1);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.len() < 40_000_000);
}

#[test]
fn nobody_spins_while_a_large_packet_waits_for_the_one_before_it() {
    let slow = answering("S", Duration::from_millis(1500));
    let rules = format!("{BY_PACKET}\nbuffer-max = \"64KiB\"");
    let running = Program::run(&config(&[slow.address], "", &rules));
    let mut client = connect(running.address("public"));
    client.write_all(&[frame(&[7; 60_000]), frame(&[7; 60_000])].concat()).unwrap();
    assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(60_001));
    let used = running.processor_time();
    assert!(used < Duration::from_millis(700), "{used:?} of processor time");
    assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(60_001));
}

#[test]
fn packets_under_way_are_few_where_they_are_large() {
    let slow = answering("S", Duration::from_millis(100));
    let rules = format!("{BY_PACKET}\nbuffer-max = \"64KiB\"");
    let (running, door) = serve(&config(&[slow.address], "", &rules));
    let mut client = connect(door);
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        (0..8).for_each(|_| writer.write_all(&frame(&[7; 500_000])).unwrap());
    });
    for _ in 0..8 {
        assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(500_001));
    }
    sender.join().unwrap();
    leave(client, &running, Why::ClientFinished);
}
