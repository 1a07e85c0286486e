//! Packets of connections that are balanced whole: what is no packet goes nowhere, what is one arrives as it was, and
//! backends may be told first whose it is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::Why;

use crate::support::backend::Backend;
use crate::support::client::{Last, connect, read_to_last};
use crate::support::packets::{exchange, frame, leave, next, three};
use crate::support::tls::Certificates;
use crate::support::{config, serve, until, until_ended};

const WHOLE: &str = "packet = { length = \"u32be\", max = \"2MB\" }";

/// What a backend got, in its reads, however long each was.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Keeps what it gets, and answers nothing until its client has finished.
fn keeping() -> (Backend, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let backend = Backend::serving(move |mut stream| {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let Ok(count) = stream.read(&mut bytes) else {
                kept.lock().unwrap().push(b"reset".to_vec());
                return Ok(());
            };
            kept.lock().unwrap().push(bytes[..count].to_vec());
            if count == 0 {
                return stream.write_all(&frame(b"all"));
            }
        }
    });
    (backend, seen)
}

fn all(seen: &Seen) -> Vec<u8> {
    seen.lock().unwrap().concat()
}

#[test]
fn packets_of_one_connection_go_to_one_backend_and_arrive_as_they_were() {
    let (_backends, addresses) = three(Duration::ZERO);
    let (running, door) = serve(&config(&addresses, "", WHOLE));
    for (name, count) in [("A", 1), ("B", 2), ("C", 3)] {
        let mut client = connect(door);
        assert_eq!(exchange(&mut client, 0..500), name.repeat(500));
        drop(client);
        until_ended(&running, Why::ClientFinished, count);
    }
}

#[test]
fn packets_arrive_whole_however_they_are_cut_and_not_before() {
    let (backend, seen) = keeping();
    let (_running, door) = serve(&config(&[backend.address], "", WHOLE));
    let mut client = connect(door);
    let packet = frame(b"hello");
    for piece in 0..packet.len() {
        let (first, second) = packet.split_at(piece);
        let before = all(&seen).len();
        client.write_all(first).unwrap();
        client.flush().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(all(&seen).len(), before, "a part of {piece} bytes was passed on");
        client.write_all(second).unwrap();
        until("the packet", || all(&seen).len() == before + packet.len());
    }
    // One that is larger than any read, with others in front and behind.
    let stream = [frame(b"small"), frame(&[7; 700_000]), frame(b"small")].concat();
    let before = all(&seen).len();
    client.write_all(&stream).unwrap();
    until("all of it", || all(&seen).len() == before + stream.len());
    assert_eq!(all(&seen)[before..], stream);
}

#[test]
fn the_largest_packet_passes_both_ways_and_a_larger_one_is_refused_by_its_header() {
    let (_backends, addresses) = three(Duration::ZERO);
    let rules = "packet = { length = \"u32be\", max = 1004, reply-max = 1005 }";
    let (running, door) = serve(&config(&addresses, "", rules));
    let mut client = connect(door);
    client.write_all(&frame(&[1; 1000])).unwrap();
    assert_eq!(next(&mut client).unwrap().unwrap().len(), 1001);
    // Its header alone says it; the replies to those before it still arrive.
    let good_and_bad = [frame(b"good"), frame(b"also"), 1001_u32.to_be_bytes().to_vec()].concat();
    client.write_all(&good_and_bad).unwrap();
    assert_eq!(read_to_last(&client), ([frame(b"Agood"), frame(b"Aalso")].concat(), Last::End));
    until_ended(&running, Why::BadPacket, 1);
    let talkative = Backend::serving(|mut stream| {
        next(&mut stream)?;
        stream.write_all(&[frame(b"good"), frame(&[0; 1002])].concat())?;
        next(&mut stream).map(drop)
    });
    let (running, door) = serve(&config(&[talkative.address], "", rules));
    let mut client = connect(door);
    client.write_all(&frame(b"x")).unwrap();
    assert_eq!(read_to_last(&client), (frame(b"good"), Last::Reset));
    until_ended(&running, Why::BadResponse, 1);
}

#[test]
fn nobody_waits_for_a_backend_that_goes_on_after_its_client_was_refused() {
    let deaf = Backend::serving(|mut stream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let rules = "packet = { length = \"u32be\", max = 100 }\nidle-timeout = \"off\"";
    let (running, door) = serve(&config(&[deaf.address], "", rules));
    let mut client = connect(door);
    let began = Instant::now();
    client.write_all(&[frame(b"good"), 101_u32.to_be_bytes().to_vec()].concat()).unwrap();
    read_to_last(&client);
    until_ended(&running, Why::BadPacket, 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn nobody_gets_a_part_of_a_packet_that_its_sender_did_not_finish() {
    let (backend, seen) = keeping();
    let (running, door) = serve(&config(&[backend.address], "", WHOLE));
    let mut client = connect(door);
    client.write_all(&[frame(b"whole"), frame(b"torn")[..6].to_vec()].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // It ends in order for the backend, which still answers.
    assert_eq!(read_to_last(&client), (frame(b"all"), Last::End));
    assert_eq!(all(&seen), frame(b"whole"));
    until_ended(&running, Why::ClientFinished, 1);
    let torn = Backend::serving(|mut stream| {
        next(&mut stream)?;
        stream.write_all(&[frame(b"whole"), frame(b"torn")[..6].to_vec()].concat())
    });
    let (running, door) = serve(&config(&[torn.address], "", WHOLE));
    let mut client = connect(door);
    client.write_all(&frame(b"x")).unwrap();
    assert_eq!(read_to_last(&client), (frame(b"whole"), Last::Reset));
    until_ended(&running, Why::BackendReset, 1);
}

#[test]
fn a_large_packet_may_pass_before_it_is_whole() {
    let (backend, seen) = keeping();
    let rules = "packet = { length = \"u32be\", max = \"2MB\", stream-large = true }";
    let (running, door) = serve(&config(&[backend.address], "", rules));
    let mut client = connect(door);
    let packet = frame(&[9; 100_000]);
    let stream = [frame(b"small"), packet[..50_000].to_vec()].concat();
    client.write_all(&stream).unwrap();
    until("its first half", || all(&seen).len() == stream.len());
    client.write_all(&[&packet[50_000..], &frame(b"next")[..]].concat()).unwrap();
    until("the rest", || all(&seen).len() == stream.len() + 50_004 + 8);
    // What is known of no length is still held.
    client.write_all(&[0, 0]).unwrap();
    // And a part of a packet that has been passed on is never taken for a whole one.
    client.write_all(&[0, 9, b'x']).unwrap();
    until("its beginning", || all(&seen).ends_with(&[0, 0, 0, 9, b'x']));
    client.shutdown(Shutdown::Write).unwrap();
    until_ended(&running, Why::ClientReset, 1);
    until("its reset", || all(&seen).ends_with(b"xreset"));
}

#[test]
fn a_backend_is_told_first_whose_connection_it_is() {
    let (backend, seen) = keeping();
    let rules = format!(
        "{WHOLE}\nprologue = '{{\"ip\":\"{{client.ip}}\",\"port\":{{client.port}},\"id\":{{connection.id}}}}'"
    );
    let (_running, door) = serve(&config(&[backend.address], "", &rules));
    let mut told = Vec::new();
    for _ in 0..2 {
        let before = all(&seen).len();
        let mut client = connect(door);
        client.write_all(&frame(b"hello")).unwrap();
        until("the packet", || all(&seen)[before..].ends_with(&frame(b"hello")));
        let got = all(&seen)[before..].to_vec();
        let mut got = &got[..];
        let body = next(&mut got).unwrap().unwrap();
        assert_eq!(next(&mut got).unwrap().as_deref(), Some(&b"hello"[..]));
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let own = client.local_addr().unwrap();
        assert_eq!(body["ip"], own.ip().to_string());
        assert_eq!(body["port"], own.port());
        told.push(body["id"].as_u64().unwrap());
    }
    assert!(told[0] < told[1], "{told:?}");
}

#[test]
fn a_prologue_has_the_header_that_its_protocol_asks_for() {
    let (backend, seen) = keeping();
    let rules = "packet = { length = \"u16be\", offset = 2, body-offset = 6 }\n\
                 prologue = { body = \"{client.ip}\", header = \"hex:4d41000007\" }";
    let (_running, door) = serve(&config(&[backend.address], "", rules));
    let mut client = connect(door);
    client.write_all(b"MA\0\x02\0\0hi").unwrap();
    let ip = client.local_addr().unwrap().ip().to_string();
    let length = u8::try_from(ip.len()).unwrap();
    let wanted = [&[b'M', b'A', 0, length, 7, 0], ip.as_bytes(), b"MA\0\x02\0\0hi"].concat();
    until("both", || all(&seen) == wanted);
}

#[test]
fn every_packet_may_say_who_sent_it() {
    let (backend, seen) = keeping();
    for by in ["connection", "packet"] {
        let rules = format!(
            "{WHOLE}\nclient-prefix = true\nbalance-per = \"{by}\"\nidle-timeout = \"30s\""
        );
        let (_running, door) = serve(&config(&[backend.address], "", &rules));
        let mut client = connect(door);
        let before = all(&seen).len();
        client.write_all(&[frame(b"one"), frame(b"two")].concat()).unwrap();
        until("both", || all(&seen).len() == before + 2 * (4 + 26 + 3));
        let got = all(&seen)[before..].to_vec();
        let mut got = &got[..];
        let SocketAddr::V4(own) = client.local_addr().unwrap() else { panic!("not IPv4") };
        let mut ids = Vec::new();
        for wanted in [b"one", b"two"] {
            let body = next(&mut got).unwrap().unwrap();
            assert_eq!(body[..16], own.ip().to_ipv6_mapped().octets());
            assert_eq!(body[16..18], own.port().to_be_bytes());
            ids.push(body[18..26].to_vec());
            assert_eq!(&body[26..], wanted, "by {by}");
        }
        assert_eq!(ids[0], ids[1]);
    }
}

#[test]
fn a_login_decides_where_a_connection_goes() {
    let (_backends, addresses) = three(Duration::ZERO);
    let balance = "balance = { hash = \"first-packet:4:4\" }";
    let (running, door) = serve(&config(&addresses, balance, WHOLE));
    let mut homes = Vec::new();
    for player in 0..24_u32 {
        let mut names = String::new();
        for _ in 0..3 {
            let mut client = connect(door);
            names += &exchange(&mut client, player..player + 1);
            names += &exchange(&mut client, 100..105);
        }
        assert_eq!(names, names[..1].repeat(18), "player {player}");
        homes.push(names[..1].to_owned());
    }
    for name in ["A", "B", "C"] {
        assert!(homes.iter().any(|home| home == name), "{homes:?}");
    }
    // Who never says it goes nowhere.
    let mut client = connect(door);
    client.write_all(&frame(b"torn")[..5]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_last(&client), (Vec::new(), Last::End));
    until_ended(&running, Why::ClientFinished, 24 * 3 + 1);
}

#[test]
fn the_login_too_says_who_sent_it() {
    let (backend, seen) = keeping();
    let rules = format!("{WHOLE}\nclient-prefix = true");
    let balance = "balance = { hash = \"first-packet\" }";
    let (_running, door) = serve(&config(&[backend.address], balance, &rules));
    let mut client = connect(door);
    client.write_all(&[frame(b"login"), frame(b"two")].concat()).unwrap();
    until("both", || all(&seen).len() == 2 * (4 + 26) + 5 + 3);
    let got = all(&seen);
    let mut got = &got[..];
    for wanted in [&b"login"[..], b"two"] {
        let body = next(&mut got).unwrap().unwrap();
        assert_eq!(body[16..18], client.local_addr().unwrap().port().to_be_bytes());
        assert_eq!(&body[26..], wanted);
    }
}

#[test]
fn who_never_logs_in_is_ended_by_whichever_limit_comes_first() {
    let (_backends, addresses) = three(Duration::ZERO);
    let balance = "balance = { hash = \"first-packet\" }";
    for (limits, why) in [
        ("idle-timeout = \"off\"\nmax-duration = \"300ms\"", Why::MaxDuration),
        ("idle-timeout = \"300ms\"", Why::IdleTimeout),
    ] {
        let (running, door) = serve(&config(&addresses, balance, &format!("{WHOLE}\n{limits}")));
        let _client = connect(door);
        until_ended(&running, why, 1);
    }
}

#[test]
fn who_has_got_half_a_packet_when_we_end_it_sees_no_end_in_order() {
    let large = Backend::serving(|mut stream| {
        next(&mut stream)?;
        // More than all buffers on the way hold.
        stream.write_all(&frame(&vec![7; 30_000_000]))
    });
    let rules = "packet = { length = \"u32be\", max = \"40MB\" }\nmax-duration = \"700ms\"";
    let (running, door) = serve(&config(&[large.address], "", rules));
    let mut client = connect(door);
    client.write_all(&frame(b"x")).unwrap();
    until_ended(&running, Why::MaxDuration, 1);
    let (got, last) = read_to_last(&client);
    assert!(got.len() < 30_000_004);
    assert_eq!(last, Last::Reset);
}

#[test]
fn only_whole_packets_keep_a_connection_alive_where_that_is_said() {
    let quiet = Backend::serving(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop));
    for (counts, is_ended) in [("packets", true), ("client", false)] {
        for by in ["connection", "packet"] {
            let rules = format!(
                "{WHOLE}\nbalance-per = \"{by}\"\nidle-timeout = \"400ms\"\nidle-counts = \"{counts}\""
            );
            let (running, door) = serve(&config(&[quiet.address], "", &rules));
            let mut client = connect(door);
            client.write_all(&1000_u32.to_be_bytes()).unwrap();
            let ended = (0..15).any(|_| {
                std::thread::sleep(Duration::from_millis(80));
                client.write_all(b"x").is_err()
            });
            assert_eq!(ended, is_ended, "{counts}, by {by}");
            if is_ended {
                until_ended(&running, Why::IdleTimeout, 1);
            }
        }
    }
}

#[test]
fn packets_pass_whole_through_tls_on_both_sides() {
    let certificates = Certificates::new();
    let (_backends, addresses) = three(Duration::ZERO);
    let tls = format!("{WHOLE}\ntls = {{ {} }}", certificates.pair());
    let (_ending, door) = serve(&config(&addresses, "", &tls));
    let upstream = "tls = { verify = \"off\" }";
    let (running, front) = serve(&config(&[door], upstream, WHOLE));
    let mut client = connect(front);
    assert_eq!(exchange(&mut client, 0..900), "A".repeat(900));
    for packet in frame(&[7; 1_000_000]).chunks(70_001) {
        client.write_all(packet).unwrap();
    }
    assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(1_000_001));
    leave(client, &running, Why::ClientFinished);
}
