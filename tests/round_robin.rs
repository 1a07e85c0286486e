//! Round robin: in turn over the whole process however many workers there are, and exactly by weight.
//! Each visitor hears a backend's name, so the order is seen from outside, as clients meet it.

use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::client::visit;
use crate::support::{config, config_with, serve};

fn visits(door: SocketAddr, count: usize) -> String {
    (0..count).map(|_| visit(door)).collect()
}

fn table(backend: &Backend, rest: &str) -> String {
    format!("{{ address = \"{}\", {rest} }}", backend.address)
}

#[test]
fn six_connections_over_three_backends_go_in_turn_however_many_workers_there_are() {
    let backends = ["A", "B", "C"].map(Backend::named);
    let addresses = [0, 1, 2].map(|index: usize| backends[index].address);
    for workers in [1, 2, 4] {
        let process = format!("[process]\nworkers = {workers}\n");
        let (_running, door) = serve(&config(&addresses, "", &process));
        assert_eq!(visits(door, 6), "ABCABC", "with {workers} workers");
        assert_eq!(visits(door, 30), "ABC".repeat(10), "with {workers} workers");
    }
}

#[test]
fn connections_that_stay_open_are_spread_in_turn_too() {
    let backends = ["A", "B", "C"].map(Backend::named);
    let addresses = [0, 1, 2].map(|index: usize| backends[index].address);
    let (running, door) = serve(&config(&addresses, "", "[process]\nworkers = 4\n"));
    let open: Vec<_> = (0..60).map(|_| crate::support::client::connect(door)).collect();
    let names: String = open.iter().map(crate::support::client::line).collect();
    for name in ["A", "B", "C"] {
        assert_eq!(names.matches(name).count(), 20, "{names}");
    }
    assert!(running.backends().iter().all(|backend| backend.open == 20));
}

#[test]
fn weights_hold_exactly_and_smoothly() {
    let backends = ["A", "B", "C"].map(Backend::named);
    let weights = ["weight = 5", "weight = 1", "weight = 1"];
    let list: Vec<_> = backends.iter().zip(weights).map(|(b, weight)| table(b, weight)).collect();
    let (_running, door) = serve(&config_with(&list.join(", "), "", ""));
    let names = visits(door, 70);
    for (index, turn) in names.as_bytes().chunks(7).enumerate() {
        let count = |name: u8| turn.iter().filter(|byte| **byte == name).count();
        assert_eq!((count(b'A'), count(b'B'), count(b'C')), (5, 1, 1), "turn {index} of {names}");
    }
    // Smooth: the two light ones are never next to each other, so the heavy one gets no more than three in a row.
    assert!(!names.contains("BC") && !names.contains("CB"), "{names}");
    assert!(!names.contains("AAAAA"), "{names}");
}

#[test]
fn a_backend_of_weight_zero_gets_no_connection() {
    let (drained, other) = (Backend::named("D"), Backend::named("A"));
    let list = format!("{}, \"{}\"", table(&drained, "weight = 0"), other.address);
    let (running, door) = serve(&config_with(&list, "", ""));
    assert_eq!(visits(door, 10), "A".repeat(10));
    assert_eq!(drained.accepted(), 0);
    assert_eq!(running.backends()[0].state, "drained");
}

#[test]
fn a_dead_backends_share_goes_evenly_to_the_others() {
    let backends = ["A", "B", "C"].map(Backend::named);
    let [a, b, c] = backends;
    let addresses = [a.address, b.address, c.address];
    let dead = a.stop();
    let (running, door) = serve(&config(&addresses, "eject-after = 1", ""));
    assert_ne!(visit(door), "", "the first is dead, so another one is met");
    crate::support::until_state(&running, dead, "ejected");
    // The line-up without it is published by the control thread, a moment after the verdict.
    crate::support::until("the dead one is out of the turn", || {
        let before = crate::support::backend_counts(&running, dead).failures;
        visits(door, 3);
        crate::support::backend_counts(&running, dead).failures == before
    });
    let names = visits(door, 20);
    assert!(names == "BC".repeat(10) || names == "CB".repeat(10), "{names}");
}
