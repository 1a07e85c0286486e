//! Limits: exactly as many as configured come in, the next one is told no within a second, a freed place is usable at once.
//! What cannot be served now waits its turn in a bounded queue, oldest first, or is refused for a named reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};

use crate::support::backend::Backend;
use crate::support::client::{connect, connect_from, is_served, line, read_to_last};
use crate::support::{config, config_with, serve, until, until_ended};

fn client(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 2, number))
}

/// Connects so many that stay, all served.
fn served(door: SocketAddr, count: usize) -> Vec<TcpStream> {
    let open: Vec<_> = (0..count).map(|_| connect(door)).collect();
    assert!(open.iter().all(is_served), "one of {count} is not served");
    open
}

/// The next one is refused within a second, for this reason; and once one has left, one more is served.
fn assert_full(running: &Running, door: SocketAddr, mut open: Vec<TcpStream>, why: Why) {
    for times in 1..=3 {
        let began = Instant::now();
        assert!(!is_served(connect(door)), "one too many is served");
        assert!(began.elapsed() < Duration::from_secs(1), "the refusal took {:?}", began.elapsed());
        until_ended(running, why, times);
    }
    for finished in 1..=5 {
        drop(open.remove(0));
        until_ended(running, Why::ClientFinished, finished);
        open.extend(served(door, 1));
        assert!(!is_served(connect(door)), "one too many is served");
    }
}

#[test]
fn the_process_serves_exactly_its_number_over_all_listeners() {
    let backend = Backend::echo();
    let second = "[tcp.second]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    let limit = "[process]\nconnections-max = 20\nworkers = 4\n";
    let (running, door) = serve(&config(&[backend.address], "", &format!("{second}{limit}")));
    let second = running.addresses("second")[0];
    let mut open = served(door, 10);
    open.extend(served(second, 10));
    assert!(!is_served(connect(second)));
    until_ended(&running, Why::LimitProcess, 1);
    drop(open.pop());
    until_ended(&running, Why::ClientFinished, 1);
    open.extend(served(door, 1));
    assert_eq!(running.counts().open, 20);
    assert!(!is_served(connect(door)));
}

#[test]
fn a_full_process_refuses_at_once_and_a_freed_place_is_usable_at_once() {
    let backend = Backend::echo();
    let limit = "[process]\nconnections-max = 10\n";
    let (running, door) = serve(&config(&[backend.address], "", limit));
    assert_full(&running, door, served(door, 10), Why::LimitProcess);
}

#[test]
fn a_full_listener_refuses_at_once_and_leaves_the_others_alone() {
    let backend = Backend::echo();
    let second =
        "connections-max = 10\n[tcp.second]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    let (running, door) = serve(&config(&[backend.address], "", second));
    let open = served(door, 10);
    let _others = served(running.addresses("second")[0], 10);
    assert_full(&running, door, open, Why::LimitListener);
}

#[test]
fn a_rush_gets_exactly_the_number_of_places() {
    let backend = Backend::echo();
    let limit = "connections-max = 50\n[process]\nworkers = 4\n";
    let (running, door) = serve(&config(&[backend.address], "", limit));
    let rush: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || (0..25).map(|_| connect(door)).collect::<Vec<_>>()))
        .collect();
    let open: Vec<_> = rush.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(open.iter().filter(|stream| is_served(*stream)).count(), 50);
    assert_eq!(running.counts().ended_by(Why::LimitListener), 150);
}

#[test]
fn one_client_address_gets_its_number_and_others_get_theirs() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", "client-connections-max = 3"));
    let mut open = Vec::new();
    for number in 1..=3 {
        for _ in 0..3 {
            open.push(connect_from(client(number), door));
        }
        assert!(open.iter().all(is_served));
        assert!(!is_served(connect_from(client(number), door)));
    }
    until_ended(&running, Why::LimitClient, 3);
    drop(open.remove(0));
    until_ended(&running, Why::ClientFinished, 1);
    assert!(is_served(connect_from(client(1), door)));
}

#[test]
fn one_client_address_opens_no_more_than_its_rate() {
    let backend = Backend::echo();
    let (running, door) =
        serve(&config(&[backend.address], "", "client-connections-per-second = 10"));
    let began = Instant::now();
    let count = (0..40).filter(|_| is_served(connect_from(client(1), door))).count();
    let earned = 10.0 * began.elapsed().as_secs_f64();
    assert!(count >= 10 && count as f64 <= 11.0 + earned, "{count} of 40, {earned} were earned");
    assert!(is_served(connect_from(client(2), door)), "another address has its own rate");
    until("all refused ones are counted", || {
        running.counts().ended_by(Why::LimitClientRate) == 40 - count as u64
    });
    until("the rate is earned again", || is_served(connect_from(client(1), door)));
}

#[test]
fn allow_and_deny_decide_who_comes_in() {
    let backend = Backend::echo();
    let nets = "allow = [\"127.0.2.0/28\", \"127.0.2.200\"]\ndeny = [\"127.0.2.4/30\"]";
    let (running, door) = serve(&config(&[backend.address], "", nets));
    for (number, comes_in) in
        [(1, true), (4, false), (7, false), (8, true), (16, false), (200, true)]
    {
        assert_eq!(is_served(connect_from(client(number), door)), comes_in, "127.0.2.{number}");
    }
    until_ended(&running, Why::Denied, 3);
    assert_eq!(backend.accepted(), 3, "a backend never hears of those that were denied");
}

/// One backend with one place, whose name is heard as soon as the place is had.
fn one_place(more: &str) -> (Backend, Running, SocketAddr) {
    let backend = Backend::named("served");
    let list = format!("{{ address = \"{}\", connections-max = 1 }}", backend.address);
    // One worker, so that who connects first is also first in the queue.
    let (running, door) = serve(&config_with(&list, more, "[process]\nworkers = 1\n"));
    (backend, running, door)
}

#[test]
fn a_full_backend_makes_clients_wait_and_the_oldest_gets_the_freed_place() {
    let (backend, running, door) = one_place("queue-timeout = \"10s\"");
    let mut open = vec![connect(door)];
    assert_eq!(line(&open[0]), "served");
    for accepted in 2..=6 {
        open.push(connect(door));
        until("it is accepted", || running.counts().accepted == accepted);
    }
    while open.len() > 1 {
        assert_eq!(running.backends()[0].open, 1);
        drop(open.remove(0));
        assert_eq!(line(&open[0]), "served", "the oldest is next");
        for waiting in &open[1..] {
            waiting.set_nonblocking(true).unwrap();
            let error = std::io::Read::read(&mut &*waiting, &mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            waiting.set_nonblocking(false).unwrap();
        }
    }
    assert_eq!(backend.accepted(), 6);
}

#[test]
fn nobody_waits_longer_than_the_queue_timeout() {
    let (_backend, running, door) = one_place("queue-timeout = \"1s\"");
    let first = connect(door);
    assert_eq!(line(&first), "served");
    let began = Instant::now();
    assert!(read_to_last(connect(door)).0.is_empty());
    assert!((0.9..1.5).contains(&began.elapsed().as_secs_f64()), "it took {:?}", began.elapsed());
    until_ended(&running, Why::QueueTimeout, 1);
    drop(first);
    assert_eq!(line(connect(door)), "served", "those who gave up hold no place");
}

#[test]
fn no_more_wait_than_the_queue_takes() {
    let (_backend, running, door) = one_place("queue-timeout = \"10s\"\nqueue-max = 2");
    let first = connect(door);
    assert_eq!(line(&first), "served");
    let waiting = [connect(door), connect(door)];
    until("they wait", || running.counts().accepted == 3);
    let began = Instant::now();
    assert!(read_to_last(connect(door)).0.is_empty());
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    until_ended(&running, Why::QueueFull, 1);
    drop(first);
    for waited in waiting {
        assert_eq!(line(&waited), "served");
    }
}

#[test]
fn a_full_backend_sends_the_next_client_to_one_with_room() {
    let (small, large) = (Backend::named("small"), Backend::named("large"));
    let list = format!(
        "{{ address = \"{}\", connections-max = 2 }}, \"{}\"",
        small.address, large.address
    );
    let (_running, door) = serve(&config_with(&list, "", ""));
    let open: Vec<_> = (0..10).map(|_| connect(door)).collect();
    let names: Vec<_> = open.iter().map(line).collect();
    assert_eq!(names.iter().filter(|name| *name == "small").count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "large").count(), 8, "{names:?}");
}
