//! Balancing by packet: each packet of a connection goes to the backend whose turn it is, and its reply comes back in its
//! place, whatever becomes of backends in between.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::Why;
use rustix::process::Signal;

use crate::support::backend::{Backend, dead};
use crate::support::client::{Last, connect, read_to_last};
use crate::support::packets::{
    BY_PACKET, answering, count, dying, exchange, frame, leave, next, three,
};
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::{config, serve, until, until_ended};

#[test]
fn nine_thousand_packets_of_one_connection_are_answered_in_order_by_three_backends_alike() {
    let (_backends, addresses) = three(Duration::ZERO);
    let (running, door) = serve(&config(&addresses, "", BY_PACKET));
    let mut client = connect(door);
    let names = exchange(&mut client, 0..9000);
    assert!(names.starts_with("ABCABC"), "{}", &names[..12]);
    for name in ['A', 'B', 'C'] {
        assert_eq!(count(&names, name), 3000);
    }
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn one_after_the_other_go_over_connections_that_stay_open() {
    let (backends, addresses) = three(Duration::ZERO);
    let rules = format!("{BY_PACKET}\n[process]\nworkers = 1");
    let (_running, door) = serve(&config(&addresses, "", &rules));
    for _ in 0..10 {
        let mut client = connect(door);
        for number in 0..9 {
            exchange(&mut client, number..number + 1);
        }
    }
    for backend in &backends {
        assert_eq!(backend.accepted(), 1, "one connection, kept between packets and clients");
    }
}

#[test]
fn a_slow_backend_does_not_change_the_order_nor_hold_up_the_others() {
    let slow = answering("S", Duration::from_millis(300));
    let fast = answering("F", Duration::ZERO);
    let (_running, door) = serve(&config(&[slow.address, fast.address], "", BY_PACKET));
    let began = Instant::now();
    let names = exchange(&mut connect(door), 0..8);
    assert_eq!(names, "SFSFSFSF");
    // The slow one answers its four in turn; those of the other came meanwhile.
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
}

#[test]
fn packets_arrive_whole_however_they_are_cut() {
    let (_backends, addresses) = three(Duration::ZERO);
    let (_running, door) = serve(&config(&addresses, "", BY_PACKET));
    let mut client = connect(door);
    let sizes = [0, 1, 3, 700, 70_000, 2];
    let stream: Vec<u8> = sizes.iter().flat_map(|size| frame(&vec![7; *size])).collect();
    for piece in [1, 2, 5, 4096, stream.len()] {
        let (bytes, mut writer) = (stream.clone(), client.try_clone().unwrap());
        let limit = if piece < 5 { 800 } else { usize::MAX };
        let sender = std::thread::spawn(move || {
            let (slowly, rest) = bytes.split_at(bytes.len().min(limit));
            slowly.chunks(piece).for_each(|part| writer.write_all(part).unwrap());
            writer.write_all(rest).unwrap();
        });
        for size in sizes {
            let reply = next(&mut client).unwrap().expect("a reply");
            assert_eq!(reply.len(), size + 1, "in pieces of {piece}");
            assert!(reply[1..].iter().all(|byte| *byte == 7));
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_packet_that_is_not_whole_reaches_nobody() {
    let (backends, addresses) = three(Duration::ZERO);
    let (running, door) = serve(&config(&addresses, "", BY_PACKET));
    let mut client = connect(door);
    client.write_all(&frame(b"hello")[..8]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_last(&client), (Vec::new(), Last::End));
    until_ended(&running, Why::ClientFinished, 1);
    assert!(backends.iter().all(|backend| backend.accepted() == 0));
}

#[test]
fn the_largest_packet_passes_and_a_larger_one_is_refused_after_the_replies_to_those_before() {
    let (_backends, addresses) = three(Duration::ZERO);
    let rules =
        "packet = { length = \"u32be\", max = 1004, reply-max = 2000 }\nbalance-per = \"packet\"";
    let (running, door) = serve(&config(&addresses, "", rules));
    let mut client = connect(door);
    client.write_all(&frame(&[1; 1000])).unwrap();
    assert_eq!(next(&mut client).unwrap().unwrap().len(), 1001);
    // Its header alone says it.
    let good_and_bad = [frame(b"good"), frame(b"also"), 1001_u32.to_be_bytes().to_vec()].concat();
    client.write_all(&good_and_bad).unwrap();
    let (all, _) = read_to_last(&client);
    assert_eq!(all, [frame(b"Bgood"), frame(b"Calso")].concat());
    until_ended(&running, Why::BadPacket, 1);
}

#[test]
fn the_largest_reply_passes_and_a_larger_one_is_a_fault_of_the_backend() {
    let sizes = [1000, 1001];
    let backend = Backend::serving(move |mut stream| {
        for size in sizes {
            next(&mut stream)?;
            stream.write_all(&frame(&vec![7; size]))?;
        }
        Ok(())
    });
    let rules =
        "packet = { length = \"u32be\", max = 100, reply-max = 1004 }\nbalance-per = \"packet\"";
    let (running, door) = serve(&config(&[backend.address], "retries = 0", rules));
    let mut client = connect(door);
    client.write_all(&frame(b"x")).unwrap();
    assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(1000));
    client.write_all(&frame(b"x")).unwrap();
    assert_eq!(read_to_last(&client), (Vec::new(), Last::Reset));
    until_ended(&running, Why::BadResponse, 1);
}

#[test]
fn a_backend_that_is_not_there_is_passed_over() {
    let (_backends, mut addresses) = three(Duration::ZERO);
    addresses[1] = dead();
    let (_running, door) = serve(&config(&addresses, "", BY_PACKET));
    let names = exchange(&mut connect(door), 0..300);
    assert!(count(&names, 'A') > 90 && count(&names, 'C') > 90, "{names}");
}

#[test]
fn a_packet_that_a_lost_backend_may_have_had_ends_the_connection_after_what_came_before() {
    let (good, bad) = (answering("G", Duration::ZERO), dying("D", 2));
    let rules = format!("{BY_PACKET}\n[process]\nworkers = 1");
    let (running, door) = serve(&config(&[good.address, bad.address], "", &rules));
    let mut client = connect(door);
    assert_eq!(exchange(&mut client, 0..4), "GDGD");
    client.write_all(&[frame(b"five"), frame(b"lost")].concat()).unwrap();
    let (all, last) = read_to_last(&client);
    assert_eq!((all, last), (frame(b"Gfive"), Last::Reset));
    until("the loss is noted", || {
        let counts = running.counts();
        counts.ended_by(Why::BackendReset) + counts.ended_by(Why::BackendGone) == 1
    });
}

#[test]
fn where_packets_may_be_repeated_a_lost_backend_is_not_noticed() {
    let (good, bad) = (answering("G", Duration::ZERO), dying("D", 5));
    let rules = format!("{BY_PACKET}\nretry = \"idempotent\"");
    let (_running, door) = serve(&config(&[good.address, bad.address], "retries = 3", &rules));
    let names = exchange(&mut connect(door), 0..3000);
    assert!(count(&names, 'D') > 0 && count(&names, 'G') > 1500, "{}", count(&names, 'D'));
}

#[test]
fn a_backend_that_never_answers_is_too_late() {
    let silent = Backend::never_reading();
    let rules = format!("{BY_PACKET}\nidle-timeout = \"off\"");
    let (running, door) = serve(&config(&[silent.address], "response-timeout = \"300ms\"", &rules));
    let mut client = connect(door);
    client.write_all(&frame(b"hello")).unwrap();
    let (all, last) = read_to_last(&client);
    assert_eq!((all, last), (Vec::new(), Last::Reset));
    until_ended(&running, Why::ResponseTimeout, 1);
}

#[test]
fn where_packets_may_be_repeated_one_that_is_too_late_is_tried_elsewhere() {
    let (good, silent) = (answering("G", Duration::ZERO), Backend::never_reading());
    let rules = format!("{BY_PACKET}\nretry = \"idempotent\"");
    let upstream = "response-timeout = \"200ms\"\nhealth = \"off\"";
    let (_running, door) = serve(&config(&[good.address, silent.address], upstream, &rules));
    assert_eq!(exchange(&mut connect(door), 0..20), "G".repeat(20));
}

#[test]
fn an_answer_that_is_no_packet_is_never_passed_on() {
    let bad = Backend::serving(|mut stream| {
        next(&mut stream)?;
        stream.write_all(&[0xff; 8])
    });
    let (running, door) = serve(&config(&[bad.address], "", BY_PACKET));
    let mut client = connect(door);
    client.write_all(&frame(b"hello")).unwrap();
    assert_eq!(read_to_last(&client).0, b"");
    until_ended(&running, Why::BadResponse, 1);
}

#[test]
fn what_a_backend_says_unasked_ends_its_connection_and_no_clients() {
    let talker = Backend::serving(|mut stream| {
        while let Some(body) = next(&mut stream)? {
            stream.write_all(&[frame(&body), frame(b"and another thing")].concat())?;
        }
        Ok(())
    });
    let (_running, door) = serve(&config(&[talker.address], "", BY_PACKET));
    let mut client = connect(door);
    for number in 0..20_u32 {
        client.write_all(&frame(&number.to_be_bytes())).unwrap();
        let reply = next(&mut client).unwrap();
        assert_eq!(reply.as_deref(), Some(&number.to_be_bytes()[..]));
    }
}

#[test]
fn packets_without_replies_are_spread_too() {
    let heard: Arc<Mutex<HashMap<char, usize>>> = Arc::default();
    let backends = ['A', 'B', 'C'].map(|name| {
        let heard = Arc::clone(&heard);
        Backend::serving(move |mut stream| {
            while next(&mut stream)?.is_some() {
                *heard.lock().unwrap().entry(name).or_default() += 1;
            }
            Ok(())
        })
    });
    let addresses = [0, 1, 2].map(|index: usize| backends[index].address);
    let rules = format!("{BY_PACKET}\nreplies = \"none\"");
    let (running, door) = serve(&config(&addresses, "", &rules));
    let mut client = connect(door);
    for number in 0..300_u32 {
        client.write_all(&frame(&number.to_be_bytes())).unwrap();
    }
    until("all are heard", || heard.lock().unwrap().values().sum::<usize>() == 300);
    assert!(heard.lock().unwrap().values().all(|count| *count == 100), "{heard:?}");
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_for_ever() {
    let big = Backend::serving(|mut stream| {
        while next(&mut stream)?.is_some() {
            stream.write_all(&frame(&[1; 60_000]))?;
        }
        Ok(())
    });
    let (running, door) = serve(&config(&[big.address], "", BY_PACKET));
    let client = connect(door);
    client.set_nonblocking(true).unwrap();
    let (packet, mut sent) = (frame(&[0; 1000]), 0);
    let began = Instant::now();
    // What it says is taken until all buffers are full, and no longer.
    while began.elapsed() < Duration::from_secs(2) {
        match (&client).write(&packet) {
            Ok(count) => sent += count,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    assert!(sent < 20_000_000, "{sent} bytes were taken");
    leave(client, &running, Why::ClientReset);
}

#[test]
fn a_client_that_reads_late_gets_every_reply() {
    let big = || {
        Backend::serving(|mut stream| {
            while let Some(body) = next(&mut stream)? {
                stream.write_all(&frame(&[&body[..], &[1; 60_000]].concat()))?;
            }
            Ok(())
        })
    };
    let (one, two) = (big(), big());
    let (running, door) = serve(&config(&[one.address, two.address], "", BY_PACKET));
    let mut client = connect(door);
    for round in 0..3_u32 {
        let numbers = round * 100..(round + 1) * 100;
        let all: Vec<u8> = numbers.clone().flat_map(|n| frame(&n.to_be_bytes())).collect();
        client.write_all(&all).unwrap();
        for number in numbers {
            if number % 25 == 0 {
                std::thread::sleep(Duration::from_millis(60));
            }
            let reply = next(&mut client).unwrap().expect("a reply");
            assert_eq!((&reply[..4], reply.len()), (&number.to_be_bytes()[..], 60_004));
        }
    }
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn an_idle_client_is_ended_and_one_that_waits_for_a_reply_is_not() {
    let slow = answering("S", Duration::from_millis(1200));
    let rules = format!("{BY_PACKET}\nidle-timeout = \"400ms\"");
    let (running, door) = serve(&config(&[slow.address], "", &rules));
    let mut client = connect(door);
    assert_eq!(exchange(&mut client, 0..1), "S");
    assert_eq!(read_to_last(&client), (Vec::new(), Last::End));
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn a_proxy_that_stops_answers_what_it_has_and_then_says_goodbye() {
    let slow = answering("S", Duration::from_millis(300));
    let mut program = Program::run(&config(&[slow.address], "", BY_PACKET));
    let mut client = connect(program.address("public"));
    client.write_all(&frame(b"last")).unwrap();
    until("it is asked", || slow.accepted() == 1);
    program.signal(Signal::TERM);
    assert_eq!(next(&mut client).unwrap().as_deref(), Some(&b"Slast"[..]));
    assert_eq!(read_to_last(&client).1, Last::End);
    assert_eq!(program.until_exit(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_waiting_line_is_used_when_all_backends_are_full() {
    let most = Arc::new(AtomicUsize::new(0));
    let now = Arc::new(AtomicUsize::new(0));
    let (high, open) = (Arc::clone(&most), Arc::clone(&now));
    let backend = Backend::serving(move |mut stream| {
        while let Some(body) = next(&mut stream)? {
            high.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            open.fetch_sub(1, SeqCst);
            stream.write_all(&frame(&[b"A", &body[..]].concat()))?;
        }
        Ok(())
    });
    let list = format!("{{ address = \"{}\", connections-max = 2 }}", backend.address);
    let (_running, door) = serve(&crate::support::config_with(&list, "", BY_PACKET));
    let clients: Vec<_> =
        (0..6).map(|_| std::thread::spawn(move || exchange(&mut connect(door), 0..5))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), "AAAAA");
    }
    assert!(most.load(SeqCst) <= 2, "{most:?} at the same time");
}

#[test]
fn packets_pass_through_tls_on_both_sides_and_behind_a_proxy_header() {
    let certificates = Certificates::new();
    let (_backends, addresses) = three(Duration::ZERO);
    let ends_tls = |next: &[SocketAddr]| {
        let tls = format!("tls = {{ {} }}", certificates.pair());
        serve(&config(next, "", &format!("{BY_PACKET}\n{tls}")))
    };
    let (_ending, door) = ends_tls(&addresses);
    // One of us in front that speaks TLS to it, by packet too, and is told of its client.
    let upstream = "tls = { verify = \"off\" }";
    let trusted = "accept-proxy = { from = \"127.0.0.1\" }";
    let (running, front) = serve(&config(&[door], upstream, &format!("{BY_PACKET}\n{trusted}")));
    let mut client = connect(front);
    client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
    let names = exchange(&mut client, 0..900);
    assert_eq!(["A", "B", "C"].map(|name| names.matches(name).count()), [300; 3]);
    client.write_all(&frame(&[7; 1_000_000])).unwrap();
    assert_eq!(next(&mut client).unwrap().map(|reply| reply.len()), Some(1_000_001));
    leave(client, &running, Why::ClientFinished);
}

#[test]
fn a_kept_connection_that_its_backend_has_just_ended_is_no_failure_of_the_backend() {
    // It answers one packet of each connection, and resets at the next.
    let once = dying("D", 1);
    let rules = format!("{BY_PACKET}\nretry = \"idempotent\"");
    let (running, door) = serve(&config(&[once.address], "", &rules));
    let mut client = connect(door);
    for number in 0..20 {
        assert_eq!(exchange(&mut client, number..number + 1), "D");
    }
    assert_eq!(running.backends()[0].state, "healthy");
    leave(client, &running, Why::ClientFinished);
}
