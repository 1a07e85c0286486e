//! `explain` says where a request or a connection would go and why, and that is where it then goes: of the running process by its
//! counts, of a config file as a fresh start would. Whoever asks takes nobody's turn.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::admin::{raw, refused, socket, told};
use crate::support::backend::Backend;
use crate::support::client::{connect_from, line, visit};
use crate::support::http::{Client, Recorder, config as http_config, ok};
use crate::support::program::{Program, once};
use crate::support::tls::Certificates;
use crate::support::{config, config_with, until};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

fn four() -> (Vec<Backend>, Vec<SocketAddr>) {
    let backends: Vec<_> = NAMES.into_iter().map(Backend::named).collect();
    let addresses = backends.iter().map(|backend| backend.address).collect();
    (backends, addresses)
}

fn four_http() -> Vec<Recorder> {
    NAMES.map(|name| Recorder::answering(move |_| ok(name.as_bytes()))).into()
}

/// What the running process says.
fn live(program: &Program, arguments: &[&str]) -> Value {
    let said = told(program, &[&["explain", "--live", "--json"], arguments].concat());
    serde_json::from_str(&said).expect("JSON")
}

/// What a config file alone says.
fn offline(config: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), config).unwrap();
    let all = [&["explain", "-c", "a.toml", "--json"], arguments].concat();
    let output = once(&all, folder.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The name of the backend that was picked, as it answers.
fn picked(reasons: &Value, addresses: &[SocketAddr]) -> &'static str {
    let picked = reasons["choice"]["picked"].as_str().unwrap_or_else(|| panic!("{reasons:#}"));
    let at = addresses.iter().position(|address| address.to_string() == picked);
    NAMES[at.expect("one of the backends")]
}

#[test]
fn a_connection_goes_where_the_running_process_said_it_would_by_every_algorithm() {
    for balance in [
        "\"round-robin\"",
        "\"random\"",
        "\"least-connections\"",
        "\"power-of-two\"",
        "\"least-latency\"",
        "\"first\"",
        "\"hash\"",
        "{ hash = \"source\", on = \"ring\" }",
        "{ hash = \"source\", on = \"rendezvous\" }",
        "{ hash = \"source\", bounded-load = 1.2 }",
    ] {
        let (_backends, addresses) = four();
        let list = addresses.iter().zip([1, 3, 2, 1]);
        let list = list
            .into_iter()
            .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"));
        let list = list.collect::<Vec<_>>().join(", ");
        let program = Program::run(&config_with(&list, &format!("balance = {balance}"), ""));
        let door = program.address("public");
        // Some stay, so that there are loads to go by.
        let mut held = Vec::new();
        for number in 0..12 {
            let from = std::net::Ipv4Addr::new(127, 0, 3, 10 + number).into();
            let reasons = live(&program, &["tcp", "--from", &format!("{from}")]);
            let again = live(&program, &["tcp", "--from", &format!("{from}")]);
            assert_eq!(reasons["choice"]["picked"], again["choice"]["picked"], "{balance}");
            assert_eq!(reasons["live"], true);
            assert_eq!(reasons["addresses"], serde_json::json!([door.to_string()]));
            let client = connect_from(from, door);
            assert_eq!(line(&client), picked(&reasons, &addresses), "{balance}: {reasons:#}");
            held.push(client);
        }
    }
}

#[test]
fn a_file_alone_says_where_the_first_connections_go() {
    for balance in ["\"round-robin\"", "\"least-connections\"", "\"first\"", "\"hash\""] {
        let (_backends, addresses) = four();
        let text = config(&addresses, &format!("balance = {balance}"), "");
        let reasons = offline(&text, &["tcp"]);
        assert_eq!(reasons["live"], false);
        let program = Program::run(&text);
        assert_eq!(visit(program.address("public")), picked(&reasons, &addresses), "{balance}");
    }
}

#[test]
fn a_request_goes_where_it_was_said_by_header_cookie_and_path() {
    for (part, path, lines) in [
        ("header:x-user", "/", &["X-User: 17"][..]),
        ("cookie:id", "/", &["Cookie: a=b; id=4711"]),
        ("path", "/users/9", &[]),
        ("uri", "/users/9?page=3", &[]),
        ("query:page", "/users/9?page=5", &[]),
    ] {
        let backends = four_http();
        let addresses: Vec<_> = backends.iter().map(Recorder::address).collect();
        let balance = format!("balance = {{ hash = \"{part}\" }}");
        let text = http_config(&addresses, &balance, "");
        let url = format!("http://app.test{path}");
        let headers: Vec<_> = lines.iter().flat_map(|line| ["--header", *line]).collect();
        let question = [&["http", &*url][..], &headers].concat();
        let (file, program) = (offline(&text, &question), Program::run(&text));
        let running = live(&program, &question);
        let head: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut client = Client::connect(program.address("web"));
        let answer = client.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n{head}\r\n"));
        let went_to = answer.answer().text();
        assert_eq!(picked(&running, &addresses), went_to, "{part}");
        assert_eq!(picked(&file, &addresses), went_to, "{part}");
    }
}

#[test]
fn a_session_is_found_by_its_cookie_and_its_turn_is_nobodys() {
    let backends = four_http();
    let addresses: Vec<_> = backends.iter().map(Recorder::address).collect();
    let program = Program::run(&http_config(&addresses, "sticky = \"lb\"", ""));
    let mut client = Client::connect(program.address("web"));
    client.get("/");
    let answer = client.get("/");
    let home = answer.text();
    let cookie = answer.field("set-cookie").and_then(|set| set.split(';').next()).unwrap();
    let header = format!("Cookie: {cookie}");
    let reasons = live(&program, &["http", "http://app.test/", "--header", &header]);
    assert_eq!(picked(&reasons, &addresses), home);
    assert_eq!(reasons["choice"]["why"], "its session is there");
    assert_eq!(client.get("/").text(), "C", "an explanation has taken a turn");
}

const ROUTES: &str = "\
[upstream.app]\nbackends = \"127.0.0.1:9\"\nretries = 2\nconnect-timeout = \"2s\"\n\
[http.web]\nlisten = \"127.0.0.1:0\"\ndeny = \"192.0.2.0/24\"\n\
[[http.web.route]]\nhost = \"a.test\"\npath = \"/admin/*\"\nreply = 403\n\
[[http.web.route]]\nheader = { x-beta = \"yes\" }\nredirect = \"https://b.test/\"\n\
[[http.web.route]]\npath = \"/api/*\"\nmethod = [\"GET\", \"HEAD\"]\nupstream = \"app\"\nresponse-timeout = \"5s\"\nrate-limit = { requests = 5, per = \"1s\" }\n\
[[http.web.route]]\npath = \"/*\"\nreply = 404\n";

#[test]
fn every_route_says_why_it_was_taken_or_not() {
    let reasons = offline(ROUTES, &["http", "http://a.test/x/../api/users"]);
    let routes = reasons["routes"].as_array().unwrap();
    let whys: Vec<_> = routes.iter().map(|route| route["why"].as_str().unwrap()).collect();
    assert_eq!(
        whys,
        [
            "path /api/users is not /admin/*",
            "no header x-beta is yes",
            "the first whose every condition holds",
            "it would take it too, but another comes before it",
        ]
    );
    let taken: Vec<_> = routes.iter().map(|route| route["taken"] == true).collect();
    assert_eq!(taken, [false, false, true, false]);
    assert_eq!(reasons["request"]["target"], "/api/users");
    assert_eq!(reasons["end"], "goes to upstream app");
    let limit = |key: &str| {
        let rows = reasons["limits"].as_array().unwrap();
        let row = rows.iter().find(|row| row["key"] == key);
        row.unwrap_or_else(|| panic!("no {key}: {reasons:#}"))["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((limit("response-timeout"), limit("connect-timeout")), ("5s".into(), "2s".into()));
    assert!(limit("retries").starts_with("2 "));
    let gates = reasons["gates"].as_array().unwrap();
    let passes =
        |key: &str| gates.iter().find(|gate| gate["key"] == key).unwrap()["passes"].clone();
    assert_eq!((passes("allow, deny"), passes("rate-limit")), (true.into(), Value::Null));
}

#[test]
fn what_ends_before_a_backend_says_how() {
    let end = |arguments: &[&str]| offline(ROUTES, arguments)["end"].as_str().unwrap().to_owned();
    assert_eq!(end(&["http", "http://a.test/admin/x"]), "answered by Evenkeel with 403");
    let beta = ["http", "http://a.test/", "--header", "X-Beta: yes"];
    assert_eq!(end(&beta), "answered by Evenkeel: redirected with 301");
    let kept_out = ["http", "http://a.test/api/x", "--from", "192.0.2.9"];
    assert_eq!(end(&kept_out), "turned away at the door");
    assert!(end(&["http", "http://a.test/a%2Fb"]).starts_with("refused with 400"));
    let post = offline(ROUTES, &["http", "http://a.test/api/x", "--method", "POST"]);
    assert_eq!(post["routes"][2]["why"], "method POST is not GET or HEAD");
}

#[test]
fn of_several_listeners_one_has_to_be_named() {
    let more = "[tcp.a]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n\
                [tcp.b]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    let text = format!("{ROUTES}{more}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), &text).unwrap();
    let ask = |more: &[&str]| once(&[&["explain", "-c", "a.toml"], more].concat(), folder.path());
    let output = ask(&["tcp"]);
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--listener: tcp.a, tcp.b"), "{said}");
    let said = String::from_utf8(ask(&["tcp", "--listener", "b"]).stdout).unwrap();
    assert!(said.starts_with("tcp.b on 127.0.0.1:0, for 127.0.0.1\n"), "{said}");
    assert_eq!(ask(&["http", "https://a.test/"]).status.code(), Some(6));
    assert_eq!(ask(&["http", "ftp://a.test/"]).status.code(), Some(6));
    assert_eq!(ask(&["http", "/path"]).status.code(), Some(6));
}

#[test]
fn of_several_listeners_a_url_means_the_one_at_its_port() {
    let site = |name: &str, port: u16| {
        format!("[http.{name}]\nlisten = \":{port}\"\n[[http.{name}.route]]\nreply = 200\n")
    };
    let folder = tempfile::tempdir().unwrap();
    let text = [site("first", 80), site("second", 8080), site("third", 9080)].concat();
    std::fs::write(folder.path().join("a.toml"), text).unwrap();
    let ask = |url: &str| once(&["explain", "-c", "a.toml", "http", url], folder.path());
    for (url, name) in [("http://a.test/", "first"), ("http://a.test:9080/x", "third")] {
        let said = String::from_utf8(ask(url).stdout).unwrap();
        assert!(said.starts_with(&format!("http.{name} on ")), "{url}: {said}");
    }
    let said = String::from_utf8(ask("http://a.test:1/").stderr).unwrap();
    assert!(said.contains("--listener: http.first, http.second, http.third"), "{said}");
}

#[test]
fn health_and_an_operators_word_are_part_of_the_reasons() {
    let (mut backends, addresses) = four();
    let health = "balance = \"first\"\nhealth = { every = \"100ms\", rise = 1, fall = 1 }";
    let program = Program::run(&config(&addresses, health, ""));
    let row = |of: usize| {
        let reasons = live(&program, &["tcp"]);
        reasons["choice"]["candidates"][of].clone()
    };
    assert_eq!(row(0)["why"], "chosen");
    told(&program, &["drain", &format!("app/{}", addresses[0])]);
    backends.remove(1).stop();
    until("the checks have failed", || row(1)["state"] == "unhealthy");
    assert_eq!(row(0)["why"], "it is drained");
    assert_eq!(row(1)["why"], "it is unhealthy");
    let said = told(&program, &["explain", "--live", "tcp"]);
    let arrow = said.lines().find(|line| line.starts_with("->")).unwrap();
    assert!(arrow.contains(&addresses[2].to_string()), "{said}");
    assert_eq!(visit(program.address("public")), "C");
}

#[test]
fn an_order_that_is_not_understood_is_refused() {
    let (_backends, addresses) = four();
    let program = Program::run(&config(&addresses, "", ""));
    let said = refused(&program, &["explain", "--live", "http", "http://a.test/"], 6);
    assert!(said.contains("no listener speaks http; there are: tcp.public"), "{said}");
    let body = "{\"uri\":\"/\"}";
    let length = body.len();
    let head = format!(
        "POST /v1/explain HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let answer = raw(&socket(&program), format!("{head}{body}").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_listener_with_tls_says_which_certificate_it_would_show_and_what_it_demands() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test", "*.b.test"]);
    let pair = |file: &str| {
        let path = |end: &str| certificates.path(&format!("{file}.{end}")).display().to_string();
        format!("{{ certificate = \"{}\", key = \"{}\" }}", path("crt"), path("key"))
    };
    let recorder = Recorder::answering(|_| ok(b"A"));
    let (a, b) = (pair("a"), pair("b"));
    let tls = format!("tls = {{ certificates = [{a}, {b}], unknown-name = \"refused\" }}");
    let text = http_config(&[recorder.address()], "", &tls);
    let ask = |url: &str| offline(&text, &["http", url]);
    let shown = ask("https://x.b.test/");
    assert_eq!(shown["tls"]["names"], serde_json::json!(["b.test", "*.b.test"]), "{shown:#}");
    assert_eq!(shown["tls"]["client_auth"], "off");
    assert_eq!(shown["end"], "goes to upstream app");
    let refused = ask("https://c.test/");
    let end = refused["end"].as_str().unwrap();
    assert!(end.starts_with("refused in the handshake"), "{refused:#}");
    assert_eq!(refused["choice"], Value::Null);
}

#[test]
fn a_host_that_demands_more_of_clients_is_not_reached_by_another_name() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let path = |file: &str| certificates.path(file).display().to_string();
    let (a, b) = (
        format!("certificate = \"{}\", key = \"{}\"", path("a.crt"), path("a.key")),
        format!("certificate = \"{}\", key = \"{}\"", path("b.crt"), path("b.key")),
    );
    let recorder = Recorder::answering(|_| ok(b"A"));
    let ca = format!("client-auth = \"required\", client-ca = \"{}\"", path("a.crt"));
    let tls = format!("tls = {{ certificates = [{{ {a} }}, {{ {b}, {ca} }}] }}");
    let text = http_config(&[recorder.address()], "", &tls);
    let end = |more: &[&str]| {
        let said = offline(&text, &[&["http", "https://b.test/"], more].concat());
        (said["end"].as_str().unwrap().to_owned(), said["tls"]["client_auth"].clone())
    };
    assert_eq!(end(&[]), ("goes to upstream app".to_owned(), "required".into()));
    let (said, demanded) = end(&["--sni", "a.test"]);
    assert!(said.starts_with("refused with 421"), "{said}");
    assert_eq!(demanded, "off");
}

#[test]
fn a_tcp_route_is_found_by_name_and_says_why_not_otherwise() {
    let (_backends, addresses) = four();
    let text = format!(
        "[upstream.one]\nbackends = \"{}\"\n[upstream.rest]\nbackends = \"{}\"\n\
         [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"rest\"\n\
         [[tcp.public.route]]\nsni = \"a.test\"\nupstream = \"one\"\n\
         [[tcp.public.route]]\nclient = \"192.0.2.0/24\"\nupstream = \"one\"\n",
        addresses[0], addresses[1]
    );
    let ask = |more: &[&str]| offline(&text, &[&["tcp"], more].concat());
    let upstream = |reasons: &Value| reasons["choice"]["upstream"].as_str().unwrap().to_owned();
    assert_eq!(upstream(&ask(&["--sni", "A.test"])), "one");
    assert_eq!(upstream(&ask(&["--from", "192.0.2.1"])), "one");
    let other = ask(&["--sni", "b.test"]);
    assert_eq!(upstream(&other), "rest");
    assert_eq!(other["routes"][0]["why"], "name b.test is not a.test");
    assert_eq!(other["routes"][1]["why"], "client 127.0.0.1 is not 192.0.2.0/24");
    assert_eq!(ask(&[])["routes"][0]["why"], "the client asks for no name");
}

#[test]
fn a_client_is_looked_for_behind_the_proxies_that_are_trusted() {
    let trusts = "trusted-proxies = [\"198.51.100.0/24\"]\n";
    let text = ROUTES.replace("deny = \"192.0.2.0/24\"\n", trusts);
    let ask = |from: &str| {
        let header = "X-Forwarded-For: 203.0.113.9";
        offline(&text, &["http", "http://a.test/", "--from", from, "--header", header])
    };
    assert_eq!(ask("198.51.100.1")["client"], "203.0.113.9");
    assert_eq!(ask("192.0.2.1")["client"], "192.0.2.1");
}
