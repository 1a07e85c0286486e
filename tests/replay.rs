//! Replay: every pick of a journal comes out the same when it is made again from what was noted, by every algorithm and through
//! health changes, reloads, sessions, retries and full backends; a record that was tampered with is found; and another config is
//! tried on the traffic that has been.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::admin::{told, write};
use crate::support::backend::{Backend, dead};
use crate::support::client::{connect, connect_from, line, visit};
use crate::support::h2::H2Client;
use crate::support::http::{Client, Recorder, config as http_config, ok};
use crate::support::program::{Program, once};
use crate::support::{config, config_with, packets, until};

const KEPT: &str = "[log]\njournal = \"kept\"\njournal-size = \"1MiB\"\n";

fn kept(config: &str) -> String {
    format!("{KEPT}{config}")
}

/// What comes of making every pick of a program again; all of them have to come out the same.
fn all_the_same(program: &Program) -> u64 {
    let said: Value = serde_json::from_str(&told(program, &["replay", "--json"])).expect("JSON");
    let count = |key: &str| said[key].as_u64().expect("a number");
    let others = (count("different"), count("partial"), count("without_line_up"));
    assert_eq!(others, (0, 0, 0), "{said:#}");
    count("same")
}

fn weighted(backends: &[SocketAddr], weights: &[u32]) -> String {
    let list = backends
        .iter()
        .zip(weights)
        .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"));
    list.collect::<Vec<_>>().join(", ")
}

fn from(number: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(127, 0, 5, number).into()
}

const ALGORITHMS: [&str; 11] = [
    "\"round-robin\"",
    "\"random\"",
    "\"least-connections\"",
    "\"power-of-two\"",
    "\"least-latency\"",
    "\"first\"",
    "\"hash\"",
    "{ hash = \"source\", on = \"ring\" }",
    "{ hash = \"source\", on = \"rendezvous\" }",
    "{ hash = \"source\", bounded-load = 1.1 }",
    "{ hash = \"source\", on = \"ring\", bounded-load = 1.25 }",
];

#[test]
fn every_pick_of_every_algorithm_comes_out_the_same_through_loads_words_and_reloads() {
    for balance in ALGORITHMS {
        let backends = ["A", "B", "C", "D", "E", "F"].map(Backend::named);
        let addresses = backends.each_ref().map(|backend| backend.address);
        let upstream = format!("balance = {balance}\nslow-start = \"300ms\"");
        let text =
            |weights: &[u32]| kept(&config_with(&weighted(&addresses, weights), &upstream, ""));
        let program = Program::run(&text(&[1, 4, 2, 7, 1, 3]));
        let door = program.address("public");
        let mut held = Vec::new();
        let mut visits = |range: std::ops::Range<u8>| {
            for number in range {
                let client = connect_from(from(number), door);
                assert_ne!(line(&client), "", "{balance}");
                // Every other one stays, so that loads differ.
                held.extend((number % 2 == 0).then_some(client));
            }
        };
        visits(1..25);
        told(&program, &["drain", &format!("app/{}", addresses[1])]);
        visits(25..40);
        let listen = format!("listen = \"{door}\"");
        write(&program, &text(&[5, 1, 1, 0, 2, 2]).replace("listen = \"127.0.0.1:0\"", &listen));
        told(&program, &["reload"]);
        visits(40..60);
        told(&program, &["ready", &format!("app/{}", addresses[1])]);
        visits(60..90);
        assert!(all_the_same(&program) >= 89, "{balance}");
    }
}

#[test]
fn picks_come_out_the_same_through_failures_retries_and_health() {
    for balance in ALGORITHMS {
        let good = [Backend::named("A"), Backend::named("B")];
        let [failing, late] = [Backend::named("C"), Backend::named("D")];
        let all = [dead(), good[0].address, failing.address, good[1].address, late.address];
        let health =
            "health = { every = \"50ms\", rise = 1, fall = 1 }\nretries = 3\neject-after = 2";
        let text = kept(&config(&all, &format!("balance = {balance}\n{health}"), ""));
        let program = Program::run(&text);
        let door = program.address("public");
        (0..20).for_each(|_| drop(visit(door)));
        let gone = failing.stop();
        (0..20).for_each(|_| drop(visit(door)));
        let is_down = |program: &Program| {
            let row = crate::support::admin::backend(program, &gone.to_string());
            row["state"] != "healthy"
        };
        until("it is seen to have failed", || is_down(&program));
        (0..20).for_each(|_| drop(visit(door)));
        assert!(all_the_same(&program) >= 60, "{balance}");
    }
}

#[test]
fn sessions_limits_and_backups_come_out_the_same() {
    let backends = ["A", "B", "C"].map(|name| Recorder::answering(move |_| ok(name.as_bytes())));
    let [a, b, c] = backends.each_ref().map(Recorder::address);
    let list = format!(
        "backends = [{{ address = \"{a}\", connections-max = 1 }}, {{ address = \"{b}\", weight = 2, connections-max = 2 }}, {{ address = \"{c}\", backup = true }}]"
    );
    let text = http_config(&[a], "sticky = \"lb\"\nbalance = \"least-connections\"", "");
    let text = text.replace(&format!("backends = [\"{a}\"]"), &list);
    let program = Program::run(&kept(&text));
    let door = program.address("web");
    let mut first = Client::connect(door);
    let answer = first.get("/");
    let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for number in 0..30 {
        let mut client = Client::connect(door);
        let lines = if number % 3 == 0 { format!("Cookie: {cookie}\r\n") } else { String::new() };
        client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{lines}\r\n")).answer();
        if number == 10 {
            told(&program, &["drain", &format!("app/{a}")]);
        }
        if number == 20 {
            told(&program, &["down", &format!("app/{b}")]);
        }
    }
    assert!(all_the_same(&program) >= 31);
}

#[test]
fn packets_come_out_the_same_each_with_a_record_of_its_own() {
    for balance in ["\"round-robin\"", "\"least-connections\"", "{ hash = \"packet:0:4\" }"] {
        let (_backends, addresses) = packets::three(Duration::ZERO);
        let text = config(&addresses, &format!("balance = {balance}"), packets::BY_PACKET);
        let program = Program::run(&kept(&text));
        let mut client = connect(program.address("public"));
        let names = packets::exchange(&mut client, 0..60);
        assert_eq!(names.len(), 60, "{balance}");
        assert!(all_the_same(&program) >= 60, "{balance}");
    }
}

#[test]
fn requests_of_http_2_and_tries_after_bad_answers_come_out_the_same() {
    let answer = |status: &'static str| {
        move |_: &crate::support::http::Asked| {
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }
    };
    let bad = Recorder::answering(answer("503 Sorry"));
    let good = [Recorder::answering(answer("200 OK")), Recorder::answering(answer("200 OK"))];
    let all = [bad.address(), good[0].address(), good[1].address()];
    let retry = "http = [\"1.1\", \"2\"]\n[[http.web.route]]\npath = \"/*\"\nupstream = \"app\"\nretry = { times = 2, on = [503], budget = \"100%\" }\n";
    let program = Program::run(&kept(&http_config(&all, "", retry)));
    let client = H2Client::connect(program.address("web"));
    for number in 0..30 {
        assert_eq!(client.get(&format!("/{number}")).status, 200);
    }
    assert!(all_the_same(&program) >= 40);
}

#[test]
fn picks_that_compare_more_loads_than_a_record_holds_are_counted_apart() {
    let backend = Backend::serving_at("0.0.0.0:0".parse().unwrap(), |mut stream| {
        std::io::Write::write_all(&mut stream, b"A\n")
    });
    let port = backend.address.port();
    let all = |count: u16| {
        let address =
            |n: u16| std::net::Ipv4Addr::new(127, 9, (n / 250) as u8, (n % 250 + 1) as u8);
        (0..count).map(|n| SocketAddr::from((address(n), port))).collect::<Vec<_>>()
    };
    for (count, (same, partial)) in [(256, (5, 0)), (257, (0, 5))] {
        let text = config(&all(count), "balance = \"least-connections\"", "");
        let program = Program::run(&kept(&text));
        (0..5).for_each(|_| assert_eq!(visit(program.address("public")), "A"));
        let said: Value = serde_json::from_str(&told(&program, &["replay", "--json"])).unwrap();
        let counts = (said["same"].as_u64(), said["partial"].as_u64());
        assert_eq!(counts, (Some(same), Some(partial)), "{count}: {said:#}");
    }
}

/// A program that has served some, and its journal in a file.
fn exported(balance: &str, names: &[&'static str]) -> (Vec<Backend>, Program) {
    let backends: Vec<_> = names.iter().map(|name| Backend::named(name)).collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let program = Program::run(&kept(&config(&addresses, &format!("balance = {balance}"), "")));
    let door = program.address("public");
    for number in 1..=60 {
        line(connect_from(from(number), door));
    }
    told(&program, &["journal", "--export", "out.journal"]);
    (backends, program)
}

fn replay(folder: &Path, more: &[&str]) -> Output {
    once(&[&["replay", "--journal", "out.journal"], more].concat(), folder)
}

#[test]
fn a_record_that_was_tampered_with_is_named() {
    let (_backends, program) = exported("\"round-robin\"", &["A", "B", "C"]);
    let output = replay(program.folder(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "60 picks come out the same, 0 differently\n");
    let path = program.folder().join("out.journal");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"ticket\":17,", "\"ticket\":18,"),
        ("\"picked\":1,", "\"picked\":2,"),
        ("\"preferred\":null,", "\"preferred\":1,"),
    ] {
        let at = text.rfind(from).unwrap_or_else(|| panic!("no {from} in {text}"));
        let tampered = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
        std::fs::write(&path, tampered).unwrap();
        let output = replay(program.folder(), &[]);
        assert_eq!(output.status.code(), Some(4), "{from}: {output:?}");
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("the first that differs: ticket "), "{complaint}");
        assert!(complaint.contains(" recorded 127."), "{complaint}");
    }
    std::fs::write(&path, "{\"pick\":7}\n").unwrap();
    let output = replay(program.folder(), &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8(output.stderr).unwrap().contains("line 1: "));
}

/// The spread of the only upstream, by another config.
fn instead(program: &Program, config: &str) -> Value {
    std::fs::write(program.folder().join("new.toml"), config).unwrap();
    let output = replay(program.folder(), &["--config", "new.toml", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said.as_array().unwrap().len(), 1, "{said:#}");
    said[0].clone()
}

fn after(spread: &Value, backend: SocketAddr) -> u64 {
    let rows = spread["backends"].as_array().unwrap();
    let row = rows.iter().find(|row| row["backend"] == backend.to_string());
    row.map_or(0, |row| row["after"].as_u64().unwrap())
}

#[test]
fn another_config_is_tried_on_the_traffic_that_has_been() {
    let (backends, program) = exported("\"round-robin\"", &["A", "B", "C"]);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let same = instead(&program, &config(&addresses, "", ""));
    assert_eq!((&same["picks"], &same["moved"]), (&60.into(), &0.into()));
    let heavier = config_with(&weighted(&addresses, &[1, 1, 4]), "", "");
    let spread = instead(&program, &heavier);
    let counts: Vec<_> = addresses.iter().map(|address| after(&spread, *address)).collect();
    assert_eq!(counts, [10, 10, 40], "{spread:#}");
    let fewer = instead(&program, &config(&addresses[..2], "", ""));
    assert_eq!((after(&fewer, addresses[0]), after(&fewer, addresses[2])), (30, 0));
    let gone = config(&addresses, "", "").replace("app", "other");
    assert_eq!(instead(&program, &gone)["is_gone"], true);
    std::fs::write(program.folder().join("new.toml"), &heavier).unwrap();
    let output = replay(program.folder(), &["--config", "new.toml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("40 (66.7 %)") && said.contains("+20"), "{said}");
}

#[test]
fn by_hash_only_those_move_whose_backend_is_gone() {
    let (backends, program) = exported("\"hash\"", &["A", "B", "C", "D"]);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let spread = instead(&program, &config(&addresses[..3], "balance = \"hash\"", ""));
    let rows = spread["backends"].as_array().unwrap();
    let gone = rows.iter().find(|row| row["backend"] == addresses[3].to_string()).unwrap();
    let (moved, left) = (spread["moved"].as_u64().unwrap(), gone["before"].as_u64().unwrap());
    // Maglev moves few others (Eisenbud et al. 2016, 5.3).
    assert!((left..left + 10).contains(&moved) && left > 0, "{spread:#}");
    let named = "balance = { hash = \"sni\" }";
    let other = instead(&program, &config(&addresses, named, ""));
    assert_eq!((&other["picks"], &other["without_key"]), (&0.into(), &60.into()), "{other:#}");
}

#[test]
fn by_least_connections_the_load_is_followed_through_beginnings_and_ends() {
    let backends = ["A", "B"].map(Backend::named);
    let addresses = backends.each_ref().map(|backend| backend.address);
    let program = Program::run(&kept(&config(&addresses, "balance = \"first\"", "")));
    let door = program.address("public");
    let held: Vec<_> = (1..=20).map(|number| connect_from(from(number), door)).collect();
    held.iter().for_each(|client| assert_eq!(line(client), "A"));
    told(&program, &["journal", "--export", "out.journal"]);
    let spread = instead(&program, &config(&addresses, "balance = \"least-connections\"", ""));
    let counts = addresses.map(|address| after(&spread, address));
    assert_eq!(counts, [10, 10], "{spread:#}");
}
