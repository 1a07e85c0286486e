//! Packets against a simple model, many times over with other numbers: whatever backends do, each packet has its one reply in
//! its place, or the connection ends there; and what may not be repeated reaches no two backends.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::connect;
use crate::support::packets::{BY_PACKET, frame, next};
use crate::support::{config, noise, serve};

/// Packets that one client sends in a run.
const PACKETS: u32 = 150;

/// How often each packet was read whole by some backend.
type Heard = Arc<Mutex<HashMap<u32, u32>>>;

/// Numbers that are the same for the same seed.
struct Numbers(Vec<u8>, usize);

impl Numbers {
    fn of(seed: u64) -> Numbers {
        Numbers(noise(seed + 1, 40_000), 0)
    }

    /// Below `most`.
    fn next(&mut self, most: u32) -> u32 {
        self.1 = (self.1 + 4) % (self.0.len() - 4);
        let bytes = &self.0[self.1..self.1 + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % most
    }
}

/// The packet of health checks, which is no client's.
const HEALTH: &[u8] = b"h";

/// What a backend does.
struct Ways {
    /// Which packets it takes its time for.
    pause: u32,
    /// How many packets of a connection it answers before it dies.
    dies_after: Option<u32>,
    /// Whether each packet has as many replies as its number says, the last of which begins with a dot.
    many: bool,
    /// Whether it says that it wants no more.
    leaves: Arc<AtomicBool>,
}

/// Answers with what it got.
fn backend(heard: &Heard, ways: Ways) -> Backend {
    let heard = Arc::clone(heard);
    let Ways { pause, dies_after, many, leaves } = ways;
    Backend::serving(move |mut stream| {
        let mut count = 0;
        while let Some(body) = next(&mut stream)? {
            if body == HEALTH {
                if leaves.load(SeqCst) {
                    return Ok(());
                }
                stream.write_all(&frame(HEALTH))?;
                continue;
            }
            let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            *heard.lock().unwrap().entry(number).or_default() += 1;
            count += 1;
            if dies_after.is_some_and(|most| count > most) {
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            if pause > 0 && number.is_multiple_of(pause) {
                std::thread::sleep(Duration::from_millis(2));
            }
            for part in 0..if many { number % 4 } else { 0 } {
                stream.write_all(&frame(&[&[b'a' + part as u8], &body[..]].concat()))?;
            }
            let last: &[u8] = if many { b"." } else { b"" };
            stream.write_all(&frame(&[last, &body[..]].concat()))?;
        }
        Ok(())
    })
}

/// Reads everything that comes for a packet; whether it was all of it.
fn is_answered(client: &mut impl std::io::Read, body: &[u8], many: bool, at: &str) -> bool {
    let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
    for part in 0..=if many { number % 4 } else { 0 } {
        let Ok(Some(reply)) = next(client) else { return false };
        let first = if part == number % 4 { b'.' } else { b'a' + part as u8 };
        let wanted = if many { [&[first], body].concat() } else { body.to_vec() };
        assert!(reply == wanted, "{at}: packet {number}, reply {part}");
    }
    true
}

/// Seeds of a test: some, or as many as are asked for, from one on if that is said: `4000`, or `525..526`.
fn seeds(some: u64) -> Range<u64> {
    let Ok(asked) = std::env::var("EVENKEEL_SEEDS") else { return 0..some };
    let (first, end) = asked.split_once("..").unwrap_or(("0", &asked));
    first.parse().expect("a seed")..end.parse().expect("a seed")
}

/// What was seen of one run.
struct Seen {
    /// Packets that were answered before the connection ended.
    answered: u32,
    /// How often each packet was heard.
    heard: HashMap<u32, u32>,
    /// Whether a backend could die.
    may_end: bool,
}

fn run(seed: u64, many: bool, further: &str) -> Seen {
    let mut numbers = Numbers::of(seed);
    let heard = Heard::default();
    let leaves = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let mut may_end = false;
    let backends: Vec<Backend> = (0..3)
        .map(|at| {
            let dies_after = (at > 0 && numbers.next(2) == 0).then(|| 1 + numbers.next(60));
            may_end |= dies_after.is_some();
            let (pause, leaves) = (numbers.next(6), Arc::clone(&leaves[at]));
            backend(&heard, Ways { pause, dies_after, many, leaves })
        })
        .collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let limits = format!(
        "in-flight-max = {}\nbackend-in-flight-max = {}\nbuffer-max = {}",
        1 + numbers.next(70),
        1 + numbers.next(40),
        4096 + numbers.next(300_000),
    );
    let health = "health = { send = \"hex:0000000168\", expect = \"hex:0000000168\", \
                  every = \"20ms\", timeout = \"5s\", fall = 1, rise = 1 }";
    let rules = format!("{BY_PACKET}\n{further}\n{limits}");
    let (_running, door) = serve(&config(&addresses, &format!("retries = 3\n{health}"), &rules));
    let mut client = connect(door);
    let bodies: Vec<Vec<u8>> = (0..PACKETS)
        .map(|number| {
            let size = if numbers.next(20) == 0 { numbers.next(70_000) } else { numbers.next(300) };
            [&number.to_be_bytes()[..], &noise(u64::from(number), size as usize)].concat()
        })
        .collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    let mut writer = client.try_clone().unwrap();
    let mut pieces = Numbers::of(seed + 1_000_000);
    let sender = std::thread::spawn(move || {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(1 + pieces.next(5000) as usize));
            // It may have ended before all was said.
            if writer.write_all(part).is_err() {
                return;
            }
            rest = after;
        }
    });
    let mut answered = 0;
    for body in &bodies {
        // One or the other leaves for a while; the first stays.
        if numbers.next(30) == 0 {
            leaves[1 + numbers.next(2) as usize].fetch_not(SeqCst);
        }
        if !is_answered(&mut client, body, many, &format!("seed {seed}")) {
            break;
        }
        answered += 1;
    }
    drop(client);
    sender.join().unwrap();
    let heard = heard.lock().unwrap().clone();
    Seen { answered, heard, may_end }
}

#[test]
fn where_packets_may_be_repeated_every_one_is_answered_once_and_in_order() {
    for seed in seeds(60) {
        let Seen { answered, heard, .. } = run(seed, false, "retry = \"idempotent\"");
        assert_eq!(answered, PACKETS, "seed {seed}");
        assert_eq!(heard.len() as u32, PACKETS, "seed {seed}");
    }
}

#[test]
fn where_they_may_not_no_packet_reaches_two_backends_and_replies_end_in_order() {
    let (mut ended, seeds) = (0, seeds(60));
    for seed in seeds.clone() {
        let Seen { answered, heard, may_end } = run(seed, false, "");
        let twice: Vec<_> = heard.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?}");
        assert!((0..answered).all(|number| heard.contains_key(&number)), "seed {seed}");
        assert!(may_end || answered == PACKETS, "seed {seed}: {answered} with nobody dying");
        ended += u64::from(answered < PACKETS);
    }
    assert!(ended > 0 || seeds.count() < 60, "nobody met a backend that died");
}

#[test]
fn many_replies_to_each_come_once_and_in_order_or_end_there() {
    let many = "replies = \"many\"\nlast-reply = { bytes = \".\", offset = 4 }";
    let (mut ended, seeds) = (0, seeds(60));
    for seed in seeds.clone() {
        let Seen { answered, may_end, .. } =
            run(seed, true, &format!("{many}\nretry = \"idempotent\""));
        assert!(may_end || answered == PACKETS, "seed {seed}: {answered} with nobody dying");
        ended += u64::from(answered < PACKETS);
    }
    // Most of what a dying backend had begun had not been passed on yet.
    assert!(2 * ended <= seeds.count() as u64, "{ended} ended");
}
