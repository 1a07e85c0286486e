//! A proxy in front says for whom it connects, and only a proxy that is trusted is believed. What it says is the client's
//! address for everything; what follows its header is the client's, to the byte. (THREATS 1.5: PROXY protocol spoofing and
//! parsers that fall over.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use evenkeel::Why;
use evenkeel_wire::{tlv, write_proxy_v2};

use crate::support::backend::{Backend, fresh_loopback};
use crate::support::client::{self, connect, connect_from, is_served, read_to_last, visit};
use crate::support::http::{self, Recorder};
use crate::support::program::{Program, once};
use crate::support::{config, serve, until_ended};

const TRUSTED: &str = "accept-proxy = { from = [\"127.0.0.1\", \"::1/128\"], timeout = \"1s\" }";

fn line(client: &str) -> Vec<u8> {
    let (ip, port) = client.rsplit_once(':').unwrap();
    format!("PROXY TCP4 {ip} 198.51.100.1 {port} 443\r\n").into_bytes()
}

fn binary(client: &str) -> Vec<u8> {
    let ends = (client.parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    let mut header = Vec::new();
    write_proxy_v2(&mut header, Some(ends), &[(tlv::AUTHORITY, b"a.test"), (0xe0, &[7; 300])]);
    header
}

/// A connection that says this first.
fn introduced(to: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = connect(to);
    stream.write_all(header).unwrap();
    stream
}

/// Whether nothing is served on it, and it is closed.
fn is_refused(stream: TcpStream) -> bool {
    read_to_last(stream).0.is_empty()
}

#[test]
fn both_versions_are_taken_off_to_the_byte_however_they_are_cut() {
    let backend = Backend::echo();
    let (_running, door) = serve(&config(&[backend.address], "", TRUSTED));
    for header in [line("192.0.2.7:4711"), binary("192.0.2.7:4711")] {
        for size in [1, 2, 11, 16, 17, header.len() - 1, header.len() + 6] {
            let mut stream = connect(door);
            let all = [&header[..], b"PROXY TCP4 hello\r\n\r\n\0"].concat();
            for part in all.chunks(size) {
                stream.write_all(part).unwrap();
                if size < 3 {
                    std::thread::yield_now();
                }
            }
            // A second header, or what looks like one, is the client's.
            let mut back = vec![0; all.len() - header.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, &all[header.len()..], "in pieces of {size}");
        }
    }
}

#[test]
fn the_client_is_the_one_that_was_named_for_the_log_and_for_limits() {
    let backend = Backend::echo();
    let rules = format!("{TRUSTED}\nclient-connections-max = 1\ndeny = [\"192.0.2.66\"]");
    let program = Program::run(&config(&[backend.address], "", &rules));
    let door = program.address("public");
    let first = introduced(door, &line("192.0.2.1:1000"));
    let second = introduced(door, &binary("192.0.2.2:1000"));
    assert!(is_served(&first) && is_served(&second), "two clients behind one proxy");
    assert!(
        is_refused(introduced(door, &binary("192.0.2.1:1001"))),
        "a second of the first client"
    );
    assert!(is_refused(introduced(door, &line("192.0.2.66:1"))), "one that is denied");
    drop((first, second));
    let lines = program.until_lines(4);
    for (client, why) in [
        ("192.0.2.1:1000", "client-finished"),
        ("192.0.2.2:1000", "client-finished"),
        ("192.0.2.1:1001", "limit-client"),
        ("192.0.2.66:1", "denied"),
    ] {
        let is_it = |line: &&String| line.contains(client) && line.contains(why);
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{client} {why}: {lines:#?}");
    }
}

#[test]
fn the_named_client_decides_where_a_hash_leads() {
    let names = ["a", "b", "c", "d"];
    let backends = names.map(Backend::named);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let (_running, door) = serve(&config(&addresses, "balance = \"hash\"", TRUSTED));
    let name = |client: &str| client::line(introduced(door, &line(client)));
    let found: Vec<_> = (0..32).map(|n| name(&format!("192.0.2.{n}:1"))).collect();
    let again: Vec<_> = (0..32).map(|n| name(&format!("192.0.2.{n}:2"))).collect();
    assert_eq!(found, again);
    assert!(names.iter().all(|name| found.iter().any(|text| text.contains(name))), "{found:?}");
}

#[test]
fn nobody_else_is_believed_nor_served() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", TRUSTED));
    for count in 1..=2 {
        let mut stream = connect_from(fresh_loopback(), door);
        let _ = stream.write_all(&line("192.0.2.1:1"));
        assert!(is_refused(stream));
        until_ended(&running, Why::Denied, count);
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn without_accept_proxy_a_header_is_data() {
    let backend = Backend::echo();
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let mut stream = introduced(door, &line("192.0.2.1:1"));
    let mut back = vec![0; line("192.0.2.1:1").len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, line("192.0.2.1:1"));
}

#[test]
fn a_header_that_is_missing_malformed_or_cut_off_is_refused_and_named() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", TRUSTED));
    let door = program.address("public");
    let mut forged = binary("192.0.2.1:1");
    forged[20] ^= 1;
    let cases: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 0x1 1\r\n", "an address that is none"),
        (&forged, "a wrong checksum"),
        (b"PROXY TCP4 192.0.2.1", "ended within"),
        (b"", "ended within"),
    ];
    for (count, (bytes, named)) in cases.into_iter().enumerate() {
        let stream = introduced(door, bytes);
        // What cannot become a header is refused at once: there may be nothing left to end.
        if named == "ended within" {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        assert!(is_refused(stream), "{named}");
        let lines = program.until_lines(count + 1);
        assert!(lines[count].contains("proxy-header") && lines[count].contains(named), "{lines:?}");
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for_and_holds_up_nobody() {
    let backend = Backend::echo();
    let rules = format!("{TRUSTED}\n[process]\nworkers = 1");
    let (running, door) = serve(&config(&[backend.address], "", &rules));
    let began = Instant::now();
    let slow: Vec<_> = (0..20).map(|_| introduced(door, b"PROXY TC")).collect();
    assert!(is_served(introduced(door, &line("192.0.2.1:1"))));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(slow.into_iter().all(is_refused));
    assert!(began.elapsed() >= Duration::from_secs(1));
    until_ended(&running, Why::ProxyHeader, 20);
}

#[test]
fn the_proxys_own_connections_are_its_own() {
    let backend = Backend::echo();
    let rules = format!("{TRUSTED}\nallow = [\"192.0.2.0/24\"]");
    let program = Program::run(&config(&[backend.address], "", &rules));
    let mut local = Vec::new();
    write_proxy_v2(&mut local, None, &[]);
    for header in [&local[..], b"PROXY UNKNOWN\r\n"] {
        assert!(is_served(introduced(program.address("public"), header)));
    }
    let lines = program.until_lines(2);
    assert!(lines.iter().all(|line| line.contains("127.0.0.1:")), "{lines:?}");
}

#[test]
fn where_it_is_optional_a_client_without_one_is_served_also_if_the_server_speaks_first() {
    let optional = "accept-proxy = { from = \"127.0.0.1\", optional = true, timeout = \"300ms\" }";
    let (echo, first) = (Backend::echo(), Backend::named("first"));
    let (_running, door) = serve(&config(&[echo.address], "", optional));
    assert!(is_served(connect(door)));
    assert!(is_served(introduced(door, &line("192.0.2.1:1"))));
    // What might have become a header and ended was none.
    let mut short = introduced(door, b"PRO");
    short.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = String::new();
    short.read_to_string(&mut back).unwrap();
    assert_eq!(back, "PRO");
    let (_running, door) = serve(&config(&[first.address], "", optional));
    assert!(visit(door).contains("first"));
}

#[test]
fn a_config_that_believes_nobody_is_refused_and_one_that_believes_too_much_warns() {
    let folder = tempfile::tempdir().unwrap();
    let check = |rules: &str| {
        let text = config(&["127.0.0.1:1".parse().unwrap()], "", rules);
        std::fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
        let output = once(&["check"], folder.path());
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passes, said) = check("accept-proxy = { from = [] }");
    assert!(!passes && said.contains("no proxy is believed"), "{said}");
    let (passes, said) = check("accept-proxy = { from = \"10.0.0.0/8\", optional = true }");
    assert!(passes && said.contains("be any address"), "{said}");
    let (passes, said) = check(TRUSTED);
    assert!(passes && !said.contains("be any address"), "{said}");
}

#[test]
fn over_http_the_named_client_is_told_to_backends_and_judged_by_routes() {
    let recorder = Recorder::echoing();
    let rules = format!(
        "{TRUSTED}\n[[http.web.route]]\nclient = \"192.0.2.9\"\nreply = 403\n\
         [[http.web.route]]\nupstream = \"app\"\n"
    );
    let (_running, door) = http::serve(&http::config(&[recorder.address()], "", &rules));
    let ask = |header: &[u8]| {
        let mut client = http::Client::connect(door);
        client.send(header).send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
        client.answer().status
    };
    assert_eq!(ask(&line("192.0.2.9:1")), 403);
    assert_eq!(ask(&binary("192.0.2.8:1")), 200);
    assert_eq!(ask(&binary("[2001:db8::8]:1")), 200);
    let told = recorder.requests();
    let told: Vec<_> = told.iter().map(|asked| asked.field("x-forwarded-for")).collect();
    assert_eq!(told, [Some("192.0.2.8"), Some("2001:db8::8")]);
}
