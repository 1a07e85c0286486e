//! Connections as an operator sees them: listed with where they are and what they carry, found by filters, page by page; and one that is
//! closed ends at once, while all others go on, and the access log says why.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::support::admin::{raw, refused, socket, told};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::http::{self, Client, Recorder, ok};
use crate::support::program::Program;
use crate::support::{config, until};

/// What is listed with these arguments.
fn listed(program: &Program, arguments: &[&str]) -> Vec<Value> {
    let page = page(program, arguments);
    page["connections"].as_array().unwrap().clone()
}

fn page(program: &Program, arguments: &[&str]) -> Value {
    let all = [&["connections", "--json"], arguments].concat();
    serde_json::from_str(&told(program, &all)).unwrap()
}

fn two_listeners(one: &Backend, other: &Backend) -> String {
    format!(
        "[upstream.app]\nbackends = \"{}\"\n[upstream.db]\nbackends = \"{}\"\n\
         [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n\
         [tcp.second]\nlisten = \"127.0.0.1:0\"\nupstream = \"db\"\n",
        one.address, other.address
    )
}

#[test]
fn a_connection_is_listed_with_where_it_is_and_what_it_has_carried() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let client = connect(program.address("public"));
    assert_echo(&client, b"sixteen bytes up");
    let all = listed(&program, &[]);
    let [row] = &all[..] else { panic!("{all:?}") };
    assert_eq!(row["listener"], "tcp.public");
    assert_eq!(row["client"], client.local_addr().unwrap().to_string());
    assert_eq!((&row["kind"], &row["state"]), (&"tcp".into(), &"relaying".into()));
    assert_eq!(
        (&row["upstream"], &row["backend"]),
        (&"app".into(), &backend.address.to_string().into())
    );
    assert_eq!((&row["bytes_up"], &row["bytes_down"]), (&16.into(), &16.into()));
    let said = told(&program, &["connections"]);
    let line = said.lines().find(|line| line.contains("tcp.public")).unwrap();
    assert!(line.contains(&format!("app/{}", backend.address)), "{line}");
    assert!(said.ends_with("1 of 1\n"), "{said}");
    drop(client);
    until("it is not listed any more", || listed(&program, &[]).is_empty());
}

#[test]
fn a_connection_that_is_closed_ends_alone_and_the_log_says_who_wanted_it() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let mut victim = connect(program.address("public"));
    let other = connect(program.address("public"));
    assert_echo(&victim, b"hello");
    assert_echo(&other, b"hello");
    let name = victim.local_addr().unwrap().to_string();
    let all = listed(&program, &[]);
    let id = all.iter().find(|row| row["client"] == *name).unwrap()["id"].as_str().unwrap();
    assert_eq!(told(&program, &["connections", "close", id]), format!("{id} is closed\n"));
    // Its end comes as an end or as a reset.
    let _ = victim.write_all(b"too late");
    assert!(!victim.read(&mut [0; 9]).is_ok_and(|count| count > 0));
    let [line] = &program.until_lines(1)[..] else { panic!("more than one line") };
    assert!(line.contains(" closed-by-operator us "), "{line}");
    program.until_said(&format!("admin: close connection {id}"));
    assert_echo(&other, b"still here");
    let said = refused(&program, &["connections", "close", id], 6);
    assert!(said.contains("there is no connection"), "{said}");
    for nonsense in ["1", "a-b-c", "1-2-3-4", "99999999999999999999-0-1"] {
        refused(&program, &["connections", "close", nonsense], 6);
    }
}

#[test]
fn filters_find_exactly_those_that_are_meant() {
    let (one, other) = (Backend::echo(), Backend::echo());
    let program = Program::run(&two_listeners(&one, &other));
    let first: Vec<_> = (0..3).map(|_| connect(program.address("public"))).collect();
    let second = [connect(program.address("second"))];
    first.iter().chain(&second).for_each(|client| assert_echo(client, b"hello"));
    let count = |arguments: &[&str]| listed(&program, arguments).len();
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--listener", "tcp.public"]), 3);
    assert_eq!(count(&["--upstream", "db"]), 1);
    assert_eq!(count(&["--backend", &one.address.to_string()]), 3);
    assert_eq!(count(&["--client", "127.0.0.0/8"]), 4);
    assert_eq!(count(&["--client", "192.0.2.1"]), 0);
    assert_eq!(count(&["--older-than", "1h"]), 0);
    assert_eq!(count(&["--upstream", "app", "--listener", "tcp.second"]), 0);
    let wrong = "GET /v1/connections?listner=a HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(raw(&socket(&program), wrong.as_bytes()).starts_with("HTTP/1.1 400"));
}

#[test]
fn pages_follow_on_each_other_without_a_gap_in_any_order() {
    let backend = Backend::echo();
    let config = format!("process.workers = 2\n{}", config(&[backend.address], "", ""));
    let program = Program::run(&config);
    let come = |number: usize| {
        let client = connect(program.address("public"));
        // It has been accepted when the next one comes.
        assert_echo(&client, &vec![b'x'; 10 * (number + 1)]);
        client
    };
    let clients: Vec<_> = (0..7).map(come).collect();
    let name = |client: &std::net::TcpStream| client.local_addr().unwrap().to_string();
    let names: Vec<_> = clients.iter().map(name).collect();
    let reversed: Vec<_> = names.iter().rev().cloned().collect();
    for (sort, expected) in [("oldest", &names), ("newest", &reversed), ("bytes", &reversed)] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut arguments = vec!["--sort", sort, "--limit", "3"];
            arguments.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
            let page = page(&program, &arguments);
            assert_eq!(page["matching"], 7);
            let rows = page["connections"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["client"].as_str().unwrap().to_owned()));
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
            assert_eq!(rows.len(), 3);
        }
        assert_eq!(seen, *expected, "{sort}");
    }
}

#[test]
fn a_client_of_http_is_seen_at_the_backend_of_its_request_and_waiting_after_it() {
    // It answers when the other end of this says so.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let backend = Recorder::answering(move |_| {
        let _ = gone.lock().unwrap().recv();
        ok(b"done")
    });
    let program = Program::run(&format!(
        "[upstream.app]\nbackends = \"{}\"\n[http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        backend.address()
    ));
    let mut client = Client::connect(program.address("web"));
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let row = || listed(&program, &["--listener", "http.web"]).first().cloned();
    until("its request is at the backend", || {
        row().is_some_and(|row| row["backend"] == *backend.address().to_string())
    });
    let now = row().unwrap();
    assert_eq!((&now["kind"], &now["state"]), (&"http/1".into(), &"answering".into()));
    assert_eq!((&now["upstream"], &now["requests_open"]), (&"app".into(), &1.into()));
    drop(go);
    assert_eq!(client.answer().status, 200);
    until("it waits", || row().is_some_and(|row| row["state"] == "waiting"));
    let now = row().unwrap();
    assert!(now["backend"].is_null() && now["bytes_down"] == 4, "{now}");
    // Between two requests, the connection has a line of its own.
    let id = now["id"].as_str().unwrap();
    told(&program, &["connections", "close", id]);
    let lines = program.until_lines(2);
    assert!(lines[1].contains(" closed-by-operator us "), "{lines:?}");
}

#[test]
fn a_request_that_is_closed_under_way_leaves_one_line_and_its_connection_no_other() {
    // It answers when the other end of this says so, which is never.
    let (_go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let backend = Recorder::answering(move |_| {
        let _ = gone.lock().unwrap().recv_timeout(std::time::Duration::from_secs(5));
        ok(b"late")
    });
    let program = Program::run(&http::config(&[backend.address()], "", ""));
    let mut client = Client::connect(program.address("web"));
    client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is under way", || listed(&program, &["--upstream", "app"]).len() == 1);
    let id = listed(&program, &[])[0]["id"].as_str().unwrap().to_owned();
    told(&program, &["connections", "close", &id]);
    assert!(client.is_closed());
    until("it is not listed any more", || listed(&program, &[]).is_empty());
    // Whatever there is to say has been said when the next one is.
    assert_eq!(Client::connect(program.address("web")).send("x\r\n\r\n").answer().status, 400);
    let lines = program.until_lines(2);
    let closed: Vec<_> =
        lines.iter().filter(|line| line.contains(" closed-by-operator us ")).collect();
    assert!(closed.len() == 1 && closed[0].contains("/held"), "{lines:?}");
    assert_eq!(program.output().lines().count(), 2, "{}", program.output());
}

#[test]
fn a_client_of_http_2_is_seen_with_all_its_requests_and_closed_with_them() {
    let (_go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let backend = Recorder::answering(move |_| {
        let _ = gone.lock().unwrap().recv_timeout(std::time::Duration::from_secs(5));
        ok(b"late")
    });
    let program = Program::run(&http::config(&[backend.address()], "", ""));
    let url = format!("http://{}/", program.address("web"));
    let mut load = Command::new("h2load");
    let load = load.args(["-n", "3", "-c", "1", "-m", "3", &url]);
    let load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut load = load.expect("h2load runs: tests/install.sh installs it");
    until("three requests are under way on one connection", || {
        let all = listed(&program, &["--listener", "http.web"]);
        all.len() == 1 && all[0]["requests_open"] == 3
    });
    let row = listed(&program, &[])[0].clone();
    assert_eq!((&row["kind"], &row["state"]), (&"http/2".into(), &"answering".into()));
    told(&program, &["connections", "close", row["id"].as_str().unwrap()]);
    until("the log says why of each", || {
        program.output().matches(" closed-by-operator us ").count() >= 3
    });
    until("it is not listed any more", || listed(&program, &[]).is_empty());
    let _ = load.kill();
    let _ = load.wait();
}

#[test]
fn behind_a_proxy_the_client_is_who_that_says() {
    let backend = Backend::echo();
    let accept = "accept-proxy = { from = [\"127.0.0.0/8\"] }";
    let program = Program::run(&config(&[backend.address], "", accept));
    let mut client = connect(program.address("public"));
    client.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n").unwrap();
    assert_echo(&client, b"hello");
    assert_eq!(listed(&program, &["--client", "203.0.113.0/24"])[0]["client"], "203.0.113.7:4711");
    assert!(listed(&program, &["--client", "127.0.0.0/8"]).is_empty());
}

#[test]
fn a_list_of_many_is_bounded_and_counts_all_of_them() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let clients: Vec<_> = (0..700).map(|_| connect(program.address("public"))).collect();
    until("all are open", || page(&program, &["--limit", "1"])["matching"] == 700);
    let page = page(&program, &["--limit", "600"]);
    assert_eq!(page["connections"].as_array().unwrap().len(), 600);
    assert!(page["next"].is_string());
    drop(clients);
}
