//! The ring against what libketama itself gives, by published figures.
//!
//! Servers and weights: `ketama.servers` of <https://github.com/RJ/ketama>. Figures: the output of
//! its `ketama_test.c` ("hash point server" for the keys 0, 1, 2, ...), as quoted by MediaWiki's
//! `HashRingTest.php`; keys over equal servers: spymemcached's `KetamaNodeLocatorTest.java`.

use evenkeel_balance::{Algorithm, Ask, HashOn, Member, Table, ring_key};

use crate::group::Group;

const SERVERS: [(&str, u32); 8] = [
    ("10.0.1.1:11211", 600),
    ("10.0.1.2:11211", 300),
    ("10.0.1.3:11211", 200),
    ("10.0.1.4:11211", 350),
    ("10.0.1.5:11211", 1000),
    ("10.0.1.6:11211", 800),
    ("10.0.1.7:11211", 950),
    ("10.0.1.8:11211", 100),
];

fn ring(servers: &[(&str, u32)]) -> Table {
    let member = |(number, &(name, weight)): (usize, &(&str, u32))| Member {
        index: number as u32,
        name: name.to_string(),
        weight,
    };
    let members: Vec<Member> = servers.iter().enumerate().map(member).collect();
    Table::build(&Algorithm::Hash { on: HashOn::Ring, bounded_load: None }, &members)
}

fn server(ring: &Table, key: &str) -> u32 {
    let ask = Ask { key: ring_key(key.as_bytes()), ..Ask::default() };
    ring.pick(&Group::idle(ring.len()), &ask).unwrap()
}

#[test]
fn weighted_servers_get_the_keys_that_libketama_gives_them() {
    // The last digit of the server for the keys 0 to 19; all of 1,000 are checked in `ring.rs`.
    let ring = ring(&SERVERS);
    let digit = |key: u32| (server(&ring, &key.to_string()) + 1).to_string();
    assert_eq!((0..20).map(digit).collect::<String>(), "15667173245176582566");
}

#[test]
fn equal_servers_get_the_keys_that_spymemcached_gives_them() {
    let four = ["127.0.0.1:10000", "127.0.0.1:10001", "127.0.0.1:10002", "127.0.0.1:10003"];
    let four: Vec<(&str, u32)> = four.into_iter().map(|name| (name, 1)).collect();
    let mut five = four.clone();
    five.push(("127.0.0.1:10004", 1));

    let ring_of_four = ring(&four);
    for (key, expected) in [
        ("dustin", 0),
        ("noelani", 2),
        ("some other key", 0),
        // Beyond the last point: round to the first.
        ("V5XS8C8N", 3),
        ("8KR2DKR2", 3),
        ("L9KH6X4X", 3),
    ] {
        assert_eq!(server(&ring_of_four, key), expected, "{key}");
    }
    let ring_of_five = ring(&five);
    for (key, expected) in [("dustin", 0), ("noelani", 2), ("some other key", 4)] {
        assert_eq!(server(&ring_of_five, key), expected, "{key}");
    }
}
