//! What a listener may say of packets besides how they are cut: ids, what keeps packets together, pings, a reply of ours.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::Why;

use crate::support::backend::{Backend, dead};
use crate::support::client::{connect, read_to_last};
use crate::support::packets::{BY_PACKET, answering, dying, exchange, frame, leave, next, three};
use crate::support::{config, serve, until_ended};

/// Answers each packet with what it got, the later ones first, so many at a time.
fn answering_backwards(together: usize) -> Backend {
    Backend::serving(move |mut stream| {
        loop {
            let mut bodies = Vec::new();
            for _ in 0..together {
                let Some(body) = next(&mut stream)? else { return Ok(()) };
                bodies.push(body);
            }
            for body in bodies.iter().rev() {
                stream.write_all(&frame(body))?;
            }
        }
    })
}

#[test]
fn replies_that_carry_an_id_come_as_they_come() {
    let backend = answering_backwards(4);
    // The id is the second half of a body of eight bytes.
    let rules = format!("{BY_PACKET}\nmatch = {{ offset = 8, size = 4 }}");
    let (running, door) = serve(&config(&[backend.address], "", &rules));
    let mut client = connect(door);
    let bodies: Vec<Vec<u8>> = (0..8_u32)
        .map(|number| [&7_u32.to_be_bytes()[..], &number.to_be_bytes()].concat())
        .collect();
    client.write_all(&bodies.iter().flat_map(|body| frame(body)).collect::<Vec<_>>()).unwrap();
    let replies: Vec<_> = (0..8).map(|_| next(&mut client).unwrap().unwrap()).collect();
    let order = [3, 2, 1, 0, 7, 6, 5, 4].map(|number: usize| bodies[number].clone());
    assert_eq!(replies, order);
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn ids_that_repeat_get_a_reply_each_and_an_unknown_one_is_never_passed_on() {
    let slow = answering("", Duration::from_millis(20));
    let rules = format!("{BY_PACKET}\nmatch = {{ offset = 4, size = 1 }}");
    let (_running, door) = serve(&config(&[slow.address], "", &rules));
    let mut client = connect(door);
    client.write_all(&[frame(b"a1"), frame(b"a2"), frame(b"b3")].concat()).unwrap();
    for expected in [b"a1", b"a2", b"b3"] {
        assert_eq!(next(&mut client).unwrap().as_deref(), Some(&expected[..]));
    }
    let liar = Backend::serving(|mut stream| {
        next(&mut stream)?;
        stream.write_all(&frame(b"z"))
    });
    let (running, door) = serve(&config(&[liar.address], "", &rules));
    let mut client = connect(door);
    client.write_all(&frame(b"a")).unwrap();
    assert_eq!(read_to_last(&client).0, b"");
    until_ended(&running, Why::BadResponse, 1);
}

/// Who answered packets of these players, by player.
fn homes(client: &mut TcpStream, rounds: u32) -> HashMap<u8, String> {
    let mut homes: HashMap<u8, String> = HashMap::new();
    for round in 0..rounds {
        for player in 0..20_u8 {
            client.write_all(&frame(&[player, round as u8])).unwrap();
            let reply = next(client).unwrap().unwrap();
            homes.entry(player).or_default().push(char::from(reply[0]));
        }
    }
    homes
}

#[test]
fn a_field_of_the_packet_keeps_what_belongs_together_with_one_backend() {
    let (_backends, addresses) = three(Duration::ZERO);
    let hash = "balance = { hash = \"packet:4:1\" }";
    let (_running, door) = serve(&config(&addresses, hash, BY_PACKET));
    let first = homes(&mut connect(door), 5);
    let again = homes(&mut connect(door), 5);
    assert_eq!(first, again, "whichever connection they come on");
    let one_home = |names: &String| names.bytes().all(|name| name == names.as_bytes()[0]);
    assert!(first.values().all(one_home), "{first:?}");
    let used: std::collections::HashSet<_> = first.values().map(|names| &names[..1]).collect();
    assert_eq!(used.len(), 3, "{first:?}");
}

#[test]
fn the_first_packet_of_a_connection_may_decide_for_all() {
    let (_backends, addresses) = three(Duration::ZERO);
    let hash = "balance = { hash = \"first-packet:4:5\" }";
    let (_running, door) = serve(&config(&addresses, hash, BY_PACKET));
    let mut used = std::collections::HashSet::new();
    for player in 0..20 {
        let login = format!("pl{player:03}");
        let names: Vec<String> = (0..2)
            .map(|_| {
                let mut client = connect(door);
                client.write_all(&frame(login.as_bytes())).unwrap();
                let first = char::from(next(&mut client).unwrap().unwrap()[0]);
                exchange(&mut client, 0..5) + &first.to_string()
            })
            .collect();
        assert_eq!(names[0], names[1], "one player, one server");
        assert!(names[0].chars().all(|name| names[0].starts_with(name)), "{names:?}");
        used.insert(names[0].clone());
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn a_ping_is_answered_here_in_its_turn_and_reaches_nobody() {
    let slow = answering("S", Duration::from_millis(200));
    // A body of "ping", and one of "pong".
    let ping = "ping = { packet = \"hex:0000000470696e67\", reply = \"hex:00000004706f6e67\" }";
    let (_running, door) = serve(&config(&[slow.address], "", &format!("{BY_PACKET}\n{ping}")));
    let mut client = connect(door);
    client.write_all(&frame(b"ping")).unwrap();
    assert_eq!(next(&mut client).unwrap().as_deref(), Some(&b"pong"[..]));
    assert_eq!(slow.accepted(), 0);
    client.write_all(&[frame(b"work"), frame(b"ping"), frame(b"pings")].concat()).unwrap();
    for expected in [&b"Swork"[..], b"pong", b"Spings"] {
        assert_eq!(next(&mut client).unwrap().as_deref(), Some(expected));
    }
}

#[test]
fn a_reply_that_cannot_be_had_may_be_a_word_of_ours_and_the_client_goes_on() {
    let (good, bad) = (answering("G", Duration::ZERO), dying("D", 1));
    let rules = format!("{BY_PACKET}\nerror-reply = \"hex:000000046c6f7374\"");
    let (running, door) = serve(&config(&[good.address, bad.address], "health = \"off\"", &rules));
    let mut client = connect(door);
    let all: Vec<u8> = (0..6).flat_map(|_| frame(b"x")).collect();
    let mut seen = Vec::new();
    for _ in 0..5 {
        client.write_all(&all).unwrap();
        seen.extend((0..6).map(|_| next(&mut client).unwrap().unwrap()));
    }
    let of = |word: &[u8]| seen.iter().filter(|reply| *reply == word).count();
    assert_eq!((of(b"Gx"), of(b"Gx") + of(b"Dx") + of(b"lost")), (15, 30), "{seen:?}");
    assert!(of(b"lost") > 0);
    leave(client, &running, Why::ClientFinished);
    let (running, door) = serve(&config(&[dead()], "", &rules));
    assert_eq!(next(&mut { connect_and_send(door) }).unwrap().as_deref(), Some(&b"lost"[..]));
    until_ended(&running, Why::ClientFinished, 1);
}

fn connect_and_send(door: SocketAddr) -> TcpStream {
    let mut client = connect(door);
    client.write_all(&frame(b"x")).unwrap();
    client
}
