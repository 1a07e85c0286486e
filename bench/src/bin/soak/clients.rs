//! The mixed load: threads of clients, each kind at a bounded rate, until they are told to stop.
//! Every connection is open, used and left in a way that some real client has.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::wire::{Client, Fault, Kind, Shared};

const SHORT_THREADS: u64 = 8;
const TALKS: u64 = 16;
const BULKS: u64 = 3;
const HALF_CLOSERS: u64 = 2;
const RESETTERS: u64 = 2;
const IDLE_CONNECTIONS: usize = 60;

const STACK: usize = 256 * 1024;
const GLANCE: Duration = Duration::from_millis(100);

/// What a thread does over and over; the last argument is the pace of short connections.
type Work = fn(&Shared, &mut Random, Duration);

/// All client threads.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them all; `rate` is short connections a second, all threads together.
    pub fn start(shared: &Arc<Shared>, rate: f64, seed: u64) -> Result<Clients, String> {
        let mut clients = Clients { shared: Arc::clone(shared), threads: Vec::new() };
        let every = Duration::from_secs_f64(SHORT_THREADS as f64 / rate.clamp(1.0, 5_000.0));
        let mut seeds = Random::new(seed);
        let crews: [(u64, Work); 6] = [
            (SHORT_THREADS, come_and_go),
            (TALKS, talk),
            (BULKS, move_bulk),
            (HALF_CLOSERS, half_close),
            (RESETTERS, reset),
            (1, idle),
        ];
        for (count, work) in crews {
            for _ in 0..count {
                let (shared, mut random) = (Arc::clone(shared), Random::new(seeds.next()));
                let run = move || work(&shared, &mut random, every);
                let thread = Builder::new().stack_size(STACK).spawn(run);
                clients.threads.push(thread.map_err(|error| format!("start a client: {error}"))?);
            }
        }
        Ok(clients)
    }

    /// Lets each finish what it is at.
    pub fn stop(mut self) -> Result<(), String> {
        self.shared.stop.store(true, Relaxed);
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.into_iter().collect::<Result<_, _>>().map_err(|_| "a client panicked".to_owned())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn goes_on(shared: &Shared) -> bool {
    !shared.stop.load(Relaxed)
}

/// Sleeps in short pieces, so that an end is never far.
fn pause(shared: &Shared, lasts: Duration) {
    let until = Instant::now() + lasts;
    while goes_on(shared) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(GLANCE));
    }
}

/// Connect, 64 bytes there and back, close.
fn come_and_go(shared: &Shared, random: &mut Random, every: Duration) {
    pause(shared, random.pause(0, every.as_millis() as u64));
    let mut due = Instant::now();
    while goes_on(shared) {
        if let Some(mut client) = Client::open(shared, Kind::Short, random) {
            let outcome = client.greet().and_then(|()| client.message(63));
            client.leave(outcome);
        }
        // What a stopped backend held up is not made up for: the rate stays bounded.
        due = (due + every).max(Instant::now().checked_sub(every).unwrap_or(due));
        pause(shared, due.saturating_duration_since(Instant::now()));
    }
}

/// One connection at a time, kept for up to a minute, with a message now and then.
fn talk(shared: &Shared, random: &mut Random, _: Duration) {
    while goes_on(shared) {
        pause(shared, random.pause(0, 500));
        let Some(mut client) = Client::open(shared, Kind::Talk, random) else { continue };
        let until = Instant::now() + random.pause(1_000, 60_000);
        let mut outcome = client.greet();
        while outcome.is_ok() && Instant::now() < until && goes_on(shared) {
            outcome = client.message(random.between(1, 4_000) as usize);
            pause(shared, random.pause(50, 150));
        }
        client.leave(outcome);
    }
}

/// Megabytes in both directions at once; one reader in four lets the buffers fill first.
fn move_bulk(shared: &Shared, random: &mut Random, _: Duration) {
    while goes_on(shared) {
        pause(shared, random.pause(200, 1_500));
        let Some(mut client) = Client::open(shared, Kind::Bulk, random) else { continue };
        let size = random.between(256 << 10, 8 << 20) as usize;
        let late = if random.once_in(4) { random.pause(100, 800) } else { Duration::ZERO };
        let half_close = random.once_in(2);
        let outcome = client.greet().and_then(|()| client.transfer(size, late, half_close));
        client.leave(outcome);
    }
}

/// Says that it has no more to send while the answer is still on its way.
fn half_close(shared: &Shared, random: &mut Random, _: Duration) {
    while goes_on(shared) {
        pause(shared, random.pause(50, 150));
        let Some(mut client) = Client::open(shared, Kind::HalfClose, random) else { continue };
        let size = random.between(1, 128 << 10) as usize;
        let outcome = client.greet().and_then(|()| client.transfer(size, Duration::ZERO, true));
        client.leave(outcome);
    }
}

/// Resets: at once, after an answer, or with much under way in both directions.
fn reset(shared: &Shared, random: &mut Random, _: Duration) {
    while goes_on(shared) {
        pause(shared, random.pause(100, 300));
        let Some(mut client) = Client::open(shared, Kind::Reset, random) else { continue };
        let how = random.between(0, 3);
        let outcome = if how == 0 { Ok(()) } else { client.greet() };
        match outcome {
            Ok(()) => {
                if how == 2 {
                    // It may be gone already: that is what is about to happen anyway.
                    let _ = client.send(random.between(1, 64 << 10) as usize);
                }
                client.leave_by_reset();
            }
            fault => client.leave(fault),
        }
    }
}

/// Many connections that only now and then have something to say.
fn idle(shared: &Shared, random: &mut Random, _: Duration) {
    let mut sleepers: Vec<(Instant, Client)> = Vec::new();
    while goes_on(shared) {
        if sleepers.len() < IDLE_CONNECTIONS
            && let Some(mut client) = Client::open(shared, Kind::Idle, random)
        {
            match client.greet() {
                Ok(()) => sleepers.push((Instant::now() + random.pause(5_000, 40_000), client)),
                fault => client.leave(fault),
            }
        }
        let now = Instant::now();
        let (due, rest) = sleepers.into_iter().partition(|(until, _)| *until <= now);
        sleepers = rest;
        due.into_iter().for_each(|(_, client)| wake(client));
        pause(shared, GLANCE);
    }
    sleepers.into_iter().for_each(|(_, client)| wake(client));
}

fn wake(mut client: Client) {
    let outcome: Result<(), Fault> = client.message(64);
    client.leave(outcome);
}
