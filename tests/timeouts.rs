//! Time limits: a silent connection ends at `idle-timeout` and not half a second later, any at `max-duration`.
//! Whose bytes count against silence can be chosen, as users of Swoole need it.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use evenkeel::Why;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, read_to_last};
use crate::support::{config, serve, until_ended};

/// A backend that pushes a byte every 100 ms, whatever the client does.
fn pushing() -> Backend {
    Backend::serving(|mut stream| {
        loop {
            stream.write_all(b".")?;
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

/// Sends a byte now and then until told to stop.
fn chatter(stream: &TcpStream, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (mut stream, stop) = (stream.try_clone().expect("clone"), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(SeqCst) && stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

fn assert_between(took: Duration, least: f64, most: f64) {
    let seconds = took.as_secs_f64();
    assert!((least..most).contains(&seconds), "it took {seconds} s, not {least} to {most}");
}

#[test]
fn a_silent_connection_ends_at_the_idle_timeout() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"1s\""));
    let client = connect(door);
    assert_echo(&client, b"awake");
    let began = Instant::now();
    assert!(read_to_last(client).0.is_empty());
    assert_between(began.elapsed(), 0.95, 1.5);
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn a_connection_on_which_nothing_ever_passes_ends_at_the_idle_timeout_too() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"1s\""));
    let began = Instant::now();
    assert!(read_to_last(connect(door)).0.is_empty());
    assert_between(began.elapsed(), 0.95, 1.5);
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn a_half_closed_connection_is_not_spared_the_idle_timeout() {
    let backend = Backend::never_reading();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"1s\""));
    let client = connect(door);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let began = Instant::now();
    assert!(read_to_last(client).0.is_empty());
    assert_between(began.elapsed(), 0.95, 1.5);
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn a_talking_client_is_never_idle() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"500ms\""));
    let client = connect(door);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_echo(&client, b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(running.counts().ended_by(Why::IdleTimeout), 0);
}

#[test]
fn when_only_the_client_counts_a_pushing_backend_does_not_keep_a_silent_client() {
    let backend = pushing();
    let rules = "idle-timeout = \"1s\"\nidle-counts = \"client\"";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let began = Instant::now();
    let (pushed, _) = read_to_last(connect(door));
    assert_between(began.elapsed(), 0.95, 1.5);
    assert!(pushed.len() >= 5, "{} pushes in a second", pushed.len());
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn when_only_the_client_counts_a_talking_client_keeps_a_silent_backend() {
    let backend = Backend::never_reading();
    let rules = "idle-timeout = \"500ms\"\nidle-counts = \"client\"";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let client = connect(door);
    let stop = Arc::new(AtomicBool::new(false));
    let talk = chatter(&client, &stop);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(running.counts().ended_by(Why::IdleTimeout), 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, SeqCst);
    talk.join().unwrap();
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn when_both_count_a_pushing_backend_keeps_a_silent_client() {
    let backend = pushing();
    let rules = "idle-timeout = \"500ms\"\nidle-counts = \"both\"";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let mut client = connect(door);
    // Twenty pushes take two seconds, four times the limit.
    std::io::Read::read_exact(&mut client, &mut [0; 20]).unwrap();
    assert_eq!((running.counts().open, running.counts().ended_by(Why::IdleTimeout)), (1, 0));
}

#[test]
fn swooles_heartbeat_interval_is_accepted_and_makes_nothing_later() {
    let backend = pushing();
    let rules =
        "idle-timeout = \"1s\"\nidle-counts = \"client\"\nheartbeat-check-interval = \"60s\"";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let began = Instant::now();
    read_to_last(connect(door));
    assert_between(began.elapsed(), 0.95, 1.5);
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn max_duration_ends_the_busiest_connection() {
    let backend = pushing();
    let rules = "max-duration = \"1s\"\nidle-timeout = \"off\"";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let client = connect(door);
    let stop = Arc::new(AtomicBool::new(false));
    let talk = chatter(&client, &stop);
    let began = Instant::now();
    let mut chunk = [0; 100];
    while std::io::Read::read(&mut &client, &mut chunk).is_ok_and(|count| count > 0) {}
    assert_between(began.elapsed(), 0.9, 1.5);
    stop.store(true, SeqCst);
    talk.join().unwrap();
    until_ended(&running, Why::MaxDuration, 1);
}
