//! Draining: a backend gets nothing new and ends what it has, while an operator waits or does not; a word holds until it is taken
//! back, also over a reload. The whole process drains in the same way, and says so where others ask.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::admin::{backend, begin, refused, status, told, write};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, is_served, visit};
use crate::support::http::{self, Client, Recorder, ok};
use crate::support::packets::{BY_PACKET, exchange, three};
use crate::support::program::{Program, once};
use crate::support::{config, until};

const SOON: Duration = Duration::from_secs(10);

/// Where a program says whether it is ready.
pub(crate) fn ready_address(program: &Program) -> SocketAddr {
    program.until_said("says whether it is ready at ");
    let said = program.diagnostics();
    let after = said.split("says whether it is ready at http://").nth(1).unwrap();
    after.split('/').next().unwrap().parse().unwrap()
}

fn of(backend: &Backend) -> String {
    format!("app/{}", backend.address)
}

/// Which share of forty visits each of two backends gets.
fn shares(door: SocketAddr, names: [&str; 2]) -> [usize; 2] {
    let visits: String = (0..40).map(|_| visit(door)).collect();
    names.map(|name| visits.matches(name).count())
}

#[test]
fn a_drained_backend_gets_nothing_new_and_waiting_ends_with_its_last_connection() {
    let (old, new) = (Backend::echo(), Backend::echo());
    let program = Program::run(&config(&[old.address, new.address], "balance = \"first\"", ""));
    let door = program.address("public");
    let mut inside: Vec<_> = (0..3).map(|_| connect(door)).collect();
    inside.iter().for_each(|client| assert_echo(client, b"before"));
    let mut waiting = begin(&program, &["drain", &of(&old), "--wait", "--timeout", "60s"]);
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap();
    assert!(first.contains("drained by an operator, weight 1, 3 open"), "{first}");
    assert_eq!(lines.next().as_deref(), Some("3 connections remain"));
    inside.iter().for_each(|client| assert_echo(client, b"still served"));
    let late = connect(door);
    assert_echo(&late, b"elsewhere");
    assert_eq!((old.accepted(), new.accepted()), (3, 1));
    drop(inside.pop());
    assert_eq!(lines.next().as_deref(), Some("2 connections remain"));
    assert!(waiting.try_wait().unwrap().is_none());
    drop(inside);
    assert_eq!(lines.last().as_deref(), Some("no connection remains"));
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(backend(&program, &old.address.to_string())["state"], "drained");
    told(&program, &["ready", &of(&old)]);
    assert_echo(connect(door), b"back");
    assert_eq!(old.accepted(), 4);
}

#[test]
fn waiting_gives_up_when_its_time_is_over_and_says_how_many_remain() {
    let one = Backend::echo();
    let program = Program::run(&config(&[one.address], "", ""));
    let inside = [connect(program.address("public")), connect(program.address("public"))];
    inside.iter().for_each(|client| assert_echo(client, b"before"));
    let drain = ["drain", "app", "--wait", "--timeout", "300ms"];
    let said = refused(&program, &drain, 7);
    assert!(said.contains("the time is over: 2 connections remain"), "{said}");
    inside.iter().for_each(|client| assert_echo(client, b"still served"));
    let output = crate::support::admin::tell(&program, &[&drain[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(7));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, serde_json::json!({ "remaining": 2, "timed_out": true }));
}

#[test]
fn a_backend_that_is_down_by_word_stays_so_whatever_its_checks_say() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let health = "health = { tcp = true, every = \"20ms\", rise = 1 }\nfail-open = \"100%\"";
    let program = Program::run(&config(&[one.address, two.address], health, ""));
    let door = program.address("public");
    let inside = connect(door);
    until("it is served", || status(&program)["open"] == 1);
    let said = told(&program, &["down", &of(&one)]);
    assert!(said.contains("down by an operator, weight 1,"), "{said}");
    assert_eq!(shares(door, ["1", "2"]), [0, 40]);
    // More good checks than would bring one back.
    let checked = one.accepted();
    until("it is checked on and on", || one.accepted() > checked + 5);
    assert_eq!(shares(door, ["1", "2"]), [0, 40]);
    assert_eq!(backend(&program, &one.address.to_string())["state"], "down");
    told(&program, &["ready", &of(&one)]);
    assert_eq!(shares(door, ["1", "2"]), [20, 20]);
    drop(inside);
}

#[test]
fn weights_spread_as_said_and_the_one_of_the_config_comes_back() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address, two.address], "", ""));
    let door = program.address("public");
    let said = told(&program, &["weight", &of(&two), "3"]);
    assert!(said.contains("healthy, weight 3 by an operator, 0 open connections"), "{said}");
    assert_eq!(shares(door, ["1", "2"]), [10, 30]);
    told(&program, &["weight", &of(&two), "0"]);
    assert_eq!(shares(door, ["1", "2"]), [40, 0]);
    told(&program, &["weight", &of(&two), "config"]);
    assert_eq!(shares(door, ["1", "2"]), [20, 20]);
    let row = backend(&program, &two.address.to_string());
    assert_eq!((&row["weight"], &row["operator"]), (&1.into(), &serde_json::Value::Null));
}

#[test]
fn a_word_survives_reloads_for_as_long_as_the_config_has_the_backend() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let both = [one.address, two.address];
    let program = Program::run(&config(&both, "", ""));
    let door = program.address("public");
    told(&program, &["drain", &of(&one)]);
    told(&program, &["weight", &of(&one), "3"]);
    for further in ["retries = 3", "balance = \"random\"", ""] {
        write(&program, &config(&both, further, ""));
        let said = told(&program, &["reload"]);
        let named = format!("{}: drained, weight 3 by an operator, stays so", of(&one));
        assert!(said.contains(&named), "{said}");
        assert_eq!(shares(door, ["1", "2"]), [0, 40]);
    }
    write(&program, &config(&[two.address], "", ""));
    assert!(told(&program, &["reload"]).contains("by an operator, leaves the config"));
    write(&program, &config(&both, "", ""));
    told(&program, &["reload"]);
    assert_eq!(shares(door, ["1", "2"]), [20, 20]);
}

#[test]
fn a_whole_upstream_drains_and_comes_back() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address, two.address], "", ""));
    let door = program.address("public");
    assert_eq!(told(&program, &["drain", "app"]).lines().count(), 2);
    assert!(!is_served(connect(door)));
    told(&program, &["ready", &of(&two)]);
    assert_eq!(shares(door, ["1", "2"]), [0, 40]);
    told(&program, &["ready", "app"]);
    assert_eq!(shares(door, ["1", "2"]), [20, 20]);
}

#[test]
fn requests_go_elsewhere_while_the_connection_of_their_client_stays() {
    let (one, two) = (Recorder::answering(|_| ok(b"1")), Recorder::answering(|_| ok(b"2")));
    let balance = "balance = \"first\"";
    let program = Program::run(&http::config(&[one.address(), two.address()], balance, ""));
    let mut client = Client::connect(program.address("web"));
    assert_eq!(client.get("/").text(), "1");
    told(&program, &["drain", &format!("app/{}", one.address()), "--wait", "--timeout", "10s"]);
    assert_eq!(client.get("/").text(), "2");
    told(&program, &["ready", &format!("app/{}", one.address())]);
    assert_eq!(client.get("/").text(), "1");
}

#[test]
fn packets_go_elsewhere_while_the_connection_of_their_client_stays() {
    let (_backends, addresses) = three(Duration::ZERO);
    let program = Program::run(&config(&addresses, "", BY_PACKET));
    let mut client = connect(program.address("public"));
    assert_eq!(
        ["A", "B", "C"].map(|name| exchange(&mut client, 0..6).matches(name).count()),
        [2; 3]
    );
    told(&program, &["drain", &format!("app/{}", addresses[0]), "--wait", "--timeout", "10s"]);
    let names = exchange(&mut client, 6..12);
    assert_eq!(["A", "B", "C"].map(|name| names.matches(name).count()), [0, 3, 3]);
}

#[test]
fn sessions_stay_with_a_backend_that_drains_and_leave_one_that_is_down() {
    let (one, two) = (Recorder::answering(|_| ok(b"1")), Recorder::answering(|_| ok(b"2")));
    let settings = "balance = \"first\"\nsticky = \"evenkeel\"";
    let program = Program::run(&http::config(&[one.address(), two.address()], settings, ""));
    let mut client = Client::connect(program.address("web"));
    let first = client.get("/");
    let cookie = first.field("set-cookie").and_then(|set| set.split(';').next()).unwrap();
    let ask = |client: &mut Client| {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"))
            .answer()
            .text()
    };
    let target = format!("app/{}", one.address());
    told(&program, &["drain", &target]);
    assert_eq!((&*ask(&mut client), &*client.get("/").text()), ("1", "2"));
    told(&program, &["down", &target]);
    assert_eq!(ask(&mut client), "2");
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let one = Backend::echo();
    let program = Program::run(&config(&[one.address], "", ""));
    let said = refused(&program, &["drain", "ap"], 6);
    assert!(said.contains("no upstream \"ap\"; there is app"), "{said}");
    let said = refused(&program, &["down", "app/127.0.0.1:1"], 6);
    assert!(said.contains(&format!("there is {}", one.address)), "{said}");
    let said = refused(&program, &["drain"], 2);
    assert!(said.contains("drain --all"), "{said}");
    assert_echo(connect(program.address("public")), b"nothing has changed");
}

#[test]
fn a_whole_process_drains_and_says_so_while_it_still_accepts() {
    let one = Backend::echo();
    let process = "[admin]\nready = \"127.0.0.1:0\"\n\
                   [process]\nlame-duck = \"2s\"\ndrain-timeout = \"60s\"\n";
    let mut program = Program::run(&config(&[one.address], "", process));
    let (door, ready) = (program.address("public"), ready_address(&program));
    let ask = |path: &str| Client::connect(ready).get(path).status;
    assert_eq!((ask("/ready"), ask("/live")), (200, 200));
    let mut waiting = begin(&program, &["drain", "--all", "--wait"]);
    until("it is not ready any more", || ask("/ready") == 503);
    let late = connect(door);
    assert_echo(&late, b"came late");
    assert_eq!((ask("/live"), &status(&program)["draining"]), (200, &true.into()));
    until("new connections are refused", || std::net::TcpStream::connect(door).is_err());
    assert_eq!(ask("/ready"), 503);
    assert_echo(&late, b"still served");
    assert!(waiting.try_wait().unwrap().is_none() && !program.has_ended());
    drop(late);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(once(&["status"], program.folder()).status.code(), Some(5));
}

#[test]
fn term_turns_readiness_too() {
    let one = Backend::echo();
    let admin = "[admin]\nready = \"127.0.0.1:0\"\n[process]\ndrain-timeout = \"60s\"\n";
    let mut program = Program::run(&config(&[one.address], "", admin));
    let ready = ready_address(&program);
    let inside = connect(program.address("public"));
    assert_echo(&inside, b"before");
    program.signal(rustix::process::Signal::TERM);
    until("it is not ready any more", || Client::connect(ready).get("/ready").status == 503);
    drop(inside);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
}
