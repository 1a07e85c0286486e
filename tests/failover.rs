//! Failover: a client notices nothing of a dead backend while another can serve it, and learns at once when none can.
//! Backends that keep failing are ejected for a while; the last usable one never is.

use std::time::{Duration, Instant};

use evenkeel::{Running, Why};

use crate::support::backend::{Backend, BlackHole, dead};
use crate::support::client::{Last, assert_echo, connect, read_to_last, reset, visit};
use crate::support::{backend_counts, config, serve, until, until_ended, until_state};

const CHECKED: &str = "health = { every = \"50ms\", timeout = \"1s\", rise = 2, fall = 2 }";

#[test]
fn a_client_notices_nothing_of_a_backend_that_refuses() {
    let (gone, echo) = (dead(), Backend::echo());
    let (running, door) = serve(&config(&[gone, echo.address], "", ""));
    (0..20).for_each(|_| assert_echo(connect(door), b"hello"));
    assert!(backend_counts(&running, gone).failures > 0);
    until_ended(&running, Why::ClientFinished, 20);
}

#[test]
fn when_all_refuse_the_client_learns_it_at_once_and_none_was_tried_twice() {
    let all = [dead(), dead(), dead()];
    let (running, door) = serve(&config(&all, "retries = 10", ""));
    let began = Instant::now();
    assert_eq!(visit(door), "");
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    until_ended(&running, Why::ConnectRefused, 1);
    for address in all {
        assert_eq!(backend_counts(&running, address).failures, 1);
    }
}

#[test]
fn retries_says_how_many_others_are_tried() {
    for (retries, tries) in [(0, 1), (1, 2), (2, 3)] {
        let all = [dead(), dead(), dead(), dead()];
        let (running, door) = serve(&config(&all, &format!("retries = {retries}"), ""));
        assert_eq!(visit(door), "");
        until_ended(&running, Why::ConnectRefused, 1);
        let failures: u64 = running.backends().iter().map(|backend| backend.failures).sum();
        assert_eq!(failures, tries, "with retries = {retries}");
    }
}

#[test]
fn a_backend_that_does_not_answer_costs_three_seconds_by_default() {
    let hole = BlackHole::open();
    let (running, door) = serve(&config(&[hole.address], "retries = 0", ""));
    let client = connect(door);
    let began = Instant::now();
    assert_eq!(read_to_last(client).1, Last::End);
    let took = began.elapsed();
    assert!((2.9..3.5).contains(&took.as_secs_f64()), "it took {took:?}");
    until_ended(&running, Why::ConnectTimeout, 1);
}

#[test]
fn after_a_backend_that_does_not_answer_the_next_one_serves() {
    let (hole, echo) = (BlackHole::open(), Backend::echo());
    let settings = "connect-timeout = \"200ms\"\nbalance = \"first\"";
    let (running, door) = serve(&config(&[hole.address, echo.address], settings, ""));
    assert_echo(connect(door), b"hello");
    assert_eq!(backend_counts(&running, hole.address).failures, 1);
}

#[test]
fn a_backend_that_keeps_failing_is_left_alone_and_comes_back_in_time() {
    let (gone, other) = (dead(), Backend::named("other"));
    let settings = "eject-after = 3\neject-time = \"2s\"";
    let (running, door) = serve(&config(&[gone, other.address], settings, ""));
    let began = Instant::now();
    until("the dead backend is ejected", || {
        assert_eq!(visit(door), "other");
        backend_counts(&running, gone).state == "ejected"
    });
    assert_eq!(backend_counts(&running, gone).failures, 3);
    (0..10).for_each(|_| assert_eq!(visit(door), "other"));
    assert!(backend_counts(&running, gone).failures <= 4, "it is not tried while ejected");
    let _back = Backend::named_at(gone, "back");
    until("the backend is used again", || visit(door) == "back");
    assert!(began.elapsed() >= Duration::from_secs(2), "it came back after {:?}", began.elapsed());
    assert_eq!(backend_counts(&running, gone).state, "healthy");
}

#[test]
fn the_last_usable_backend_is_never_ejected() {
    let alone = dead();
    let (running, door) = serve(&config(&[alone], "eject-after = 1", ""));
    (0..10).for_each(|_| assert_eq!(visit(door), ""));
    until_ended(&running, Why::ConnectRefused, 10);
    assert_eq!(backend_counts(&running, alone).state, "healthy");

    let settings = "eject-after = 1\neject-max-percent = 100\neject-time = \"60s\"";
    let (running, door) = serve(&config(&[dead(), dead(), dead()], settings, ""));
    (0..10).for_each(|_| assert_eq!(visit(door), ""));
    until_ended(&running, Why::ConnectRefused, 10);
    let healthy = running.backends().iter().filter(|backend| backend.state == "healthy").count();
    assert_eq!(healthy, 1, "{:?}", running.backends());
}

#[test]
fn no_more_than_the_allowed_share_is_ejected() {
    let settings = "eject-after = 1\neject-max-percent = 50\neject-time = \"60s\"";
    let all = [dead(), dead(), dead(), dead()];
    let (running, door) = serve(&config(&all, settings, ""));
    (0..20).for_each(|_| assert_eq!(visit(door), ""));
    let ejected = running.backends().iter().filter(|backend| backend.state == "ejected").count();
    assert_eq!(ejected, 2, "{:?}", running.backends());
}

/// Visits until the first backend is ejected; then only the second is met.
fn assert_resets_eject(cruel: &Backend) -> Running {
    let kind = Backend::named("kind");
    let settings = "eject-after = 3\neject-time = \"60s\"";
    let (running, door) = serve(&config(&[cruel.address, kind.address], settings, ""));
    until("the resetting backend is ejected", || {
        visit(door);
        backend_counts(&running, cruel.address).state == "ejected"
    });
    until("it is out of the turn", || {
        let before = cruel.accepted();
        (0..4).for_each(|_| drop(visit(door)));
        cruel.accepted() == before
    });
    (0..10).for_each(|_| assert_eq!(visit(door), "kind"));
    running
}

#[test]
fn backends_that_reset_soon_are_ejected() {
    // Late enough to be a connection, and soon enough to be a failure.
    let cruel = Backend::serving(|stream| {
        std::thread::sleep(Duration::from_millis(30));
        reset(stream);
        Ok(())
    });
    let running = assert_resets_eject(&cruel);
    assert_eq!(running.counts().ended_by(Why::BackendReset), 3);
}

#[test]
fn backends_that_reset_at_once_are_ejected() {
    let cruel = Backend::resetting();
    let running = assert_resets_eject(&cruel);
    // Such a reset may come before we see the connection; then it is a failure to connect, and tried elsewhere.
    let failures = backend_counts(&running, cruel.address).failures;
    assert_eq!(running.counts().ended_by(Why::BackendReset) + failures, 3);
}

#[test]
fn with_health_off_nothing_is_ever_ejected() {
    let (gone, other) = (dead(), Backend::named("other"));
    let settings = "health = \"off\"\neject-after = 1";
    let (running, door) = serve(&config(&[gone, other.address], settings, ""));
    (0..20).for_each(|_| assert_eq!(visit(door), "other"));
    let counts = backend_counts(&running, gone);
    assert_eq!(counts.state, "healthy");
    assert!(counts.failures >= 10, "it is tried again and again: {counts:?}");
}

#[test]
fn all_down_is_a_reason_of_its_own_and_ends_with_the_first_that_is_back() {
    let all = [dead(), dead()];
    let settings = format!("{CHECKED}\neject-after = 100");
    let (running, door) = serve(&config(&all, &settings, ""));
    all.iter().for_each(|address| until_state(&running, *address, "unhealthy"));
    until("connections end with no-backend", || {
        assert_eq!(visit(door), "");
        running.counts().ended_by(Why::NoBackend) > 0
    });
    let began = Instant::now();
    assert_eq!(visit(door), "");
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    let _back = Backend::named_at(all[1], "back");
    until("the backend that is back serves", || visit(door) == "back");
}

#[test]
fn nothing_a_client_sent_early_is_lost_in_a_retry() {
    let (hole, echo) = (BlackHole::open(), Backend::echo());
    let settings = "connect-timeout = \"300ms\"\nbalance = \"first\"\nhealth = \"off\"";
    let (_running, door) = serve(&config(&[hole.address, echo.address], settings, ""));
    let early = crate::support::noise(11, 200_000);
    let client = connect(door);
    let writer = std::thread::spawn({
        let (client, early) = (client.try_clone().unwrap(), early.clone());
        move || std::io::Write::write_all(&mut &client, &early).unwrap()
    });
    let mut back = vec![0; early.len()];
    std::io::Read::read_exact(&mut &client, &mut back).unwrap();
    writer.join().unwrap();
    assert!(back == early, "the echo differs");
}
