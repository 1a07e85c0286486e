//! Packets against a simple model, many times over with other numbers: whatever backends do, each packet has its one reply in
//! its place, or the connection ends there; and what may not be repeated reaches no two backends.

use std::collections::HashMap;
use std::io::Write;
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

/// Answers with what it got, now and then after a pause, and dies after so many packets of a connection.
fn backend(heard: &Heard, pause: u32, dies_after: Option<u32>) -> Backend {
    let heard = Arc::clone(heard);
    Backend::serving(move |mut stream| {
        let mut count = 0;
        while let Some(body) = next(&mut stream)? {
            let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            *heard.lock().unwrap().entry(number).or_default() += 1;
            count += 1;
            if dies_after.is_some_and(|most| count > most) {
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            if pause > 0 && number.is_multiple_of(pause) {
                std::thread::sleep(Duration::from_millis(2));
            }
            stream.write_all(&frame(&body))?;
        }
        Ok(())
    })
}

/// One run; gives how many packets were answered before the connection ended, and how often each was heard.
fn run(seed: u64, further: &str) -> (u32, HashMap<u32, u32>) {
    let mut numbers = Numbers::of(seed);
    let heard = Heard::default();
    let backends: Vec<Backend> = (0..3)
        .map(|at| {
            let dies = (at > 0 && numbers.next(2) == 0).then(|| 1 + numbers.next(60));
            backend(&heard, numbers.next(6), dies)
        })
        .collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let limits = format!(
        "in-flight-max = {}\nbackend-in-flight-max = {}",
        1 + numbers.next(70),
        1 + numbers.next(40)
    );
    let rules = format!("{BY_PACKET}\n{further}\n{limits}");
    let (_running, door) = serve(&config(&addresses, "retries = 3\nhealth = \"off\"", &rules));
    let mut client = connect(door);
    let bodies: Vec<Vec<u8>> = (0..PACKETS)
        .map(|number| {
            let size = if numbers.next(20) == 0 { numbers.next(70_000) } else { numbers.next(300) };
            [&number.to_be_bytes()[..], &noise(u64::from(number), size as usize)].concat()
        })
        .collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(1 + numbers.next(5000) as usize));
            // It may have ended before all was said.
            if writer.write_all(part).is_err() {
                return;
            }
            rest = after;
        }
    });
    let mut answered = 0;
    for body in &bodies {
        match next(&mut client) {
            Ok(Some(reply)) => assert!(reply == *body, "seed {seed}: packet {answered}"),
            Ok(None) | Err(_) => break,
        }
        answered += 1;
    }
    drop(client);
    sender.join().unwrap();
    let heard = heard.lock().unwrap().clone();
    (answered, heard)
}

#[test]
fn where_packets_may_be_repeated_every_one_is_answered_once_and_in_order() {
    for seed in 0..60 {
        let (answered, heard) = run(seed, "retry = \"idempotent\"");
        assert_eq!(answered, PACKETS, "seed {seed}");
        assert_eq!(heard.len() as u32, PACKETS, "seed {seed}");
    }
}

#[test]
fn where_they_may_not_no_packet_reaches_two_backends_and_replies_end_in_order() {
    let mut ended = 0;
    for seed in 100..160 {
        let (answered, heard) = run(seed, "");
        let twice: Vec<_> = heard.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?}");
        assert!((0..answered).all(|number| heard.contains_key(&number)), "seed {seed}");
        ended += u32::from(answered < PACKETS);
    }
    assert!((5..60).contains(&ended), "{ended} of 60 met a backend that died");
}
