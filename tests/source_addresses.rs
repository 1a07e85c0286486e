//! `source`: backends see connections come from the configured addresses in turn, and more addresses carry more connections.
//! An address that this machine does not have is our own lack, and says nothing about the backend.

use std::collections::BTreeMap;
use std::io::Write;

use crate::support::backend::Backend;
use crate::support::client::{line, visit};
use crate::support::{config, serve, until_ended};
use evenkeel::Why;

/// A backend that answers with the address it sees and ends.
fn mirror() -> Backend {
    Backend::serving(|mut stream| {
        let peer = stream.peer_addr()?;
        writeln!(stream, "{}", peer.ip())
    })
}

#[test]
fn connections_come_from_the_source_addresses_in_turn() {
    let backend = mirror();
    let sources = "source = [\"127.0.0.31\", \"127.0.0.32\", \"::1\"]";
    let (_running, door) = serve(&config(&[backend.address], sources, ""));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..10 {
        *seen.entry(visit(door)).or_default() += 1;
    }
    // The IPv6 address does not fit an IPv4 backend and is passed over.
    assert_eq!(seen, BTreeMap::from([("127.0.0.31".to_owned(), 5), ("127.0.0.32".to_owned(), 5)]));
}

#[test]
fn a_source_address_that_is_not_ours_is_our_fault_and_never_the_backends() {
    let backend = mirror();
    let own = "source = \"192.0.2.1\"\neject-after = 1\nretries = 0";
    let (running, door) = serve(&config(&[backend.address], own, ""));
    for _ in 0..3 {
        assert_eq!(line(crate::support::client::connect(door)), "");
    }
    until_ended(&running, Why::OutOfResources, 3);
    assert_eq!(running.backends()[0].state, "healthy");
    assert_eq!(running.backends()[0].failures, 0);
}
