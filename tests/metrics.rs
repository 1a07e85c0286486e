//! What is counted adds up: to what was sent, byte for byte, by class, cause and side, and over reloads and upgrades.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::support::admin::{refused, told, write};
use crate::support::backend::{Backend, dead, echo};
use crate::support::client::{connect, connect_from, is_served, read_to_last};
use crate::support::http::{Asked, Client, Recorder, config as http_config, ok, read_head};
use crate::support::metrics::{scrape, until_counted};
use crate::support::program::Program;
use crate::support::tls::{Certificates, try_connect};
use crate::support::{config, config_with, noise};

const WEB: (&str, &str) = ("listener", "http.web");
const PUBLIC: (&str, &str) = ("listener", "tcp.public");
const UP: (&str, &str) = ("direction", "up");
const DOWN: (&str, &str) = ("direction", "down");

/// Answers with the status that is its path, and the body `hello`.
fn by_path(asked: &Asked) -> Vec<u8> {
    let status = asked.line.split(['/', ' ']).nth(2).expect("a path");
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 5\r\n\r\nhello").into_bytes()
}

fn of(backend: SocketAddr) -> String {
    backend.to_string()
}

#[test]
fn every_request_is_counted_once_by_class_and_all_sums_agree() {
    let backend = Recorder::answering(by_path);
    let workers = "[process]\nworkers = 3\n";
    let program = Program::run(&http_config(
        &[backend.address()],
        "health = \"off\"",
        &format!("\n{workers}"),
    ));
    let sent = [(200, 40), (301, 3), (404, 7), (503, 5)];
    let clients = sent.map(|(status, count)| {
        let door = program.address("web");
        std::thread::spawn(move || {
            let mut client = Client::connect(door);
            for _ in 0..count {
                client.send(format!(
                    "POST /{status} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                ));
                assert_eq!(client.answer().status, status);
            }
        })
    });
    clients.into_iter().for_each(|client| client.join().unwrap());
    let ended = "evenkeel_listener_connections_ended_total";
    until_counted(&program, ended, &[WEB, ("reason", "client-finished")], 4.0);
    let (all, backend) = (scrape(&program), of(backend.address()));
    let app = [("upstream", "app"), ("backend", &*backend)];
    for (class, count) in [("2xx", 40.0), ("3xx", 3.0), ("4xx", 7.0), ("5xx", 5.0), ("none", 0.0)] {
        let class = ("status", class);
        assert_eq!(all.sum("evenkeel_listener_requests_total", &[WEB, class]), count, "{class:?}");
        let answers = all.sum("evenkeel_backend_responses_total", &[app[0], app[1], class]);
        assert_eq!(answers, count, "{class:?}");
    }
    for (name, labels) in [
        ("evenkeel_listener_requests_ended_total", &[WEB, ("reason", "answered")][..]),
        ("evenkeel_listener_requests_ended_total", &[WEB]),
        ("evenkeel_listener_request_duration_seconds_count", &[WEB]),
        ("evenkeel_backend_requests_total", &app),
        ("evenkeel_backend_first_byte_duration_seconds_count", &app),
        ("evenkeel_backend_duration_seconds_count", &app),
    ] {
        assert_eq!(all.sum(name, labels), 55.0, "{name}{labels:?}");
    }
    for name in ["evenkeel_listener_traffic_bytes_total", "evenkeel_backend_traffic_bytes_total"] {
        assert_eq!(all.sum(name, &[UP]), 55.0 * 3.0, "{name}");
        assert_eq!(all.sum(name, &[DOWN]), 55.0 * 5.0, "{name}");
    }
    assert_eq!(all.sum("evenkeel_listener_connections_accepted_total", &[WEB]), 4.0);
    assert_eq!(all.sum("evenkeel_listener_connection_duration_seconds_count", &[WEB]), 4.0);
    assert_eq!(all.sum("evenkeel_listener_connections_open", &[WEB]), 0.0);
    let made = all.sum("evenkeel_backend_connections_total", &app);
    assert!((1.0..=4.0).contains(&made), "{made}");
    assert_eq!(all.sum("evenkeel_backend_connect_duration_seconds_count", &app), made);
    // They are told of each second; all that were made are kept.
    until_counted(&program, "evenkeel_backend_connections_idle", &app, made);
}

#[test]
fn a_request_that_is_tried_again_is_one_for_its_listener_and_one_for_each_backend() {
    let (bad, good) = (Recorder::answering(by_path), Recorder::answering(|_| ok(b"fine")));
    let rules = "balance = \"first\"\nhealth = \"off\"";
    let route = "[[http.web.route]]\nupstream = \"app\"\nretry = { times = 1, on = [\"502-503\"] }";
    let both = [bad.address(), good.address()];
    let text = http_config(&both, rules, &format!("\n{route}"));
    // Everything goes by the route.
    let program =
        Program::run(&text.replacen("127.0.0.1:0\"\nupstream = \"app\"", "127.0.0.1:0\"", 1));
    let mut client = Client::connect(program.address("web"));
    (0..6).for_each(|_| assert_eq!(client.get("/503").status, 200));
    let requests = "evenkeel_listener_requests_total";
    until_counted(&program, requests, &[WEB, ("status", "2xx")], 6.0);
    let all = scrape(&program);
    assert_eq!(all.sum(requests, &[]), 6.0);
    assert_eq!(all.sum("evenkeel_upstream_retries_total", &[]), 6.0);
    assert_eq!(all.sum("evenkeel_backend_requests_total", &[]), 12.0);
    let answers = |class| all.sum("evenkeel_backend_responses_total", &[("status", class)]);
    assert_eq!((answers("2xx"), answers("5xx")), (6.0, 6.0));
}

#[test]
fn a_tunnel_is_one_request_whose_bytes_are_counted_once() {
    let backend = Backend::serving(|stream| {
        let mut stream = std::io::BufReader::new(stream);
        read_head(&mut stream)?;
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: any\r\n\r\n";
        stream.get_mut().write_all(switch.as_bytes())?;
        echo(stream.into_inner())
    });
    let program = Program::run(&http_config(&[backend.address], "", ""));
    let mut client = Client::connect(program.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: any\r\n\r\n");
    assert_eq!(client.answer().status, 101);
    client.send([7; 1000]);
    let mut back = [0; 1000];
    client.stream.read_exact(&mut back).unwrap();
    drop(client);
    until_counted(&program, "evenkeel_listener_requests_total", &[("status", "1xx")], 1.0);
    let all = scrape(&program);
    assert_eq!(all.sum("evenkeel_listener_requests_total", &[]), 1.0);
    assert_eq!(all.sum("evenkeel_backend_responses_total", &[("status", "1xx")]), 1.0);
    for name in ["evenkeel_listener_traffic_bytes_total", "evenkeel_backend_traffic_bytes_total"] {
        assert_eq!((all.sum(name, &[UP]), all.sum(name, &[DOWN])), (1000.0, 1000.0), "{name}");
    }
}

#[test]
fn bytes_of_tcp_are_counted_as_they_passed() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let bytes = noise(7, 300_000);
    let mut client = connect(program.address("public"));
    let mut reading = client.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    reading.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == bytes);
    let ended = "evenkeel_listener_connections_ended_total";
    let finished = [PUBLIC, ("reason", "client-finished"), ("side", "client")];
    until_counted(&program, ended, &finished, 1.0);
    let all = scrape(&program);
    for name in ["evenkeel_listener_traffic_bytes_total", "evenkeel_backend_traffic_bytes_total"] {
        assert_eq!(all.sum(name, &[UP]), 300_000.0, "{name}");
        assert_eq!(all.sum(name, &[DOWN]), 300_000.0, "{name}");
    }
    for name in ["connect", "first_byte"] {
        let name = format!("evenkeel_backend_{name}_duration_seconds_count");
        assert_eq!(all.sum(&name, &[]), 1.0, "{name}");
    }
    assert_eq!(all.sum("evenkeel_backend_duration_seconds_count", &[]), 1.0);
}

#[test]
fn a_backend_that_refuses_is_counted_with_each_retry_and_then_its_ejection() {
    let (dead, living) = (dead(), Backend::echo());
    let rules = "balance = \"first\"\neject-time = \"60s\"";
    let program = Program::run(&config(&[dead, living.address], rules, ""));
    let ejections =
        [("backend", &*of(dead)), ("cause", "failures")].map(|(a, b)| (a, b.to_owned()));
    let ejections = ejections.each_ref().map(|(a, b)| (*a, &**b));
    let mut tries = 0.0;
    while scrape(&program).sum("evenkeel_backend_ejections_total", &ejections) == 0.0 {
        assert!(is_served(connect(program.address("public"))));
        tries += 1.0;
        assert!(tries < 20.0, "it is never ejected");
    }
    let (all, address) = (scrape(&program), of(dead));
    let refusals = [("backend", &*address), ("cause", "refused")];
    assert_eq!(all.sum("evenkeel_backend_connections_failed_total", &refusals), tries);
    assert_eq!(all.sum("evenkeel_backend_connections_failed_total", &[]), tries);
    assert_eq!(all.sum("evenkeel_upstream_retries_total", &[("upstream", "app")]), tries);
    let state = |state| [("backend", &*address), ("state", state)];
    assert_eq!(all.sum("evenkeel_backend_state", &state("ejected")), 1.0);
    assert_eq!(all.sum("evenkeel_backend_state", &state("healthy")), 0.0);
    assert_eq!(all.sum("evenkeel_backend_ejections_total", &[]), 1.0);
}

#[test]
fn an_ejection_for_errors_and_failed_checks_have_causes_of_their_own() {
    let (bad, good) = (Recorder::answering(by_path), Recorder::answering(|_| ok(b"fine")));
    let rules = "eject-errors = { share = \"50%\", answers = 4 }\neject-time = \"60s\"\n\
                 health = { http = \"/500\", every = \"50ms\", fall = 2 }";
    let program = Program::run(&http_config(&[bad.address(), good.address()], rules, ""));
    let address = of(bad.address());
    let checks = [("backend", &*address), ("result", "failed")];
    crate::support::until("its checks fail", || {
        scrape(&program).sum("evenkeel_backend_checks_total", &checks) >= 2.0
    });
    let state = [("backend", &*address), ("state", "unhealthy")];
    until_counted(&program, "evenkeel_backend_state", &state, 1.0);
    let all = scrape(&program);
    let passed =
        [("backend", &*of(good.address())), ("result", "passed")].map(|(a, b)| (a, b.to_owned()));
    let passed = passed.each_ref().map(|(a, b)| (*a, &**b));
    assert!(all.sum("evenkeel_backend_checks_total", &passed) >= 1.0);

    let rules = "balance = \"round-robin\"\neject-errors = { share = \"50%\", answers = 4 }\n\
                 eject-time = \"60s\"";
    let program = Program::run(&http_config(&[bad.address(), good.address()], rules, ""));
    let mut client = Client::connect(program.address("web"));
    (0..12).for_each(|_| drop(client.get("/500")));
    let cause = [("backend", &*address), ("cause", "errors")];
    until_counted(&program, "evenkeel_backend_ejections_total", &cause, 1.0);
}

#[test]
fn each_limit_is_counted_by_its_kind_and_once() {
    let backend = Backend::echo();
    let program = Program::run(&config(
        &[backend.address],
        "",
        "connections-max = 3\nclient-connections-max = 2",
    ));
    let from = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 3, last));
    let door = program.address("public");
    let open = [1, 1, 2].map(|last| connect_from(from(last), door));
    assert!(open.iter().all(is_served));
    assert!(!is_served(connect_from(from(1), door)));
    assert!(!is_served(connect_from(from(3), door)));
    let limits = "evenkeel_listener_limits_hit_total";
    until_counted(&program, limits, &[PUBLIC, ("limit", "limit-client")], 1.0);
    until_counted(&program, limits, &[PUBLIC, ("limit", "limit-listener")], 1.0);
    let all = scrape(&program);
    assert_eq!(all.sum(limits, &[]), 2.0);
    assert_eq!(all.sum("evenkeel_listener_connections_open", &[PUBLIC]), 3.0);
    assert_eq!(all.sum("evenkeel_worker_connections_open", &[]), 3.0);
    let refused = [("side", "limit")];
    assert_eq!(all.sum("evenkeel_listener_connections_ended_total", &refused), 2.0);
}

#[test]
fn limits_of_requests_are_counted_though_their_connection_ends_with_them() {
    let backend = Recorder::echoing();
    let limits = "body-max = 10\nrate-limit = { requests = 3, per = \"1h\" }";
    let program = Program::run(&http_config(&[backend.address()], "", limits));
    let door = program.address("web");
    let mut large = Client::connect(door);
    large.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(large.answer().status, 413);
    drop(large);
    let statuses: Vec<_> = (0..4).map(|_| Client::connect(door).get("/").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let ended = "evenkeel_listener_connection_duration_seconds_count";
    until_counted(&program, ended, &[WEB], 5.0);
    let (all, hit) = (scrape(&program), "evenkeel_listener_limits_hit_total");
    assert_eq!(all.sum(hit, &[("limit", "limit-body")]), 1.0);
    assert_eq!(all.sum(hit, &[("limit", "limit-rate")]), 2.0);
    assert_eq!(all.sum(hit, &[]), 3.0);
}

#[test]
fn who_finds_the_queue_full_and_who_waits_in_vain_is_counted() {
    let backend = Backend::echo();
    let one = format!("{{ address = \"{}\", connections-max = 1 }}", backend.address);
    let rules = "queue-max = 1\nqueue-timeout = \"1s\"";
    let program = Program::run(&config_with(&one, rules, ""));
    let door = program.address("public");
    let first = connect(door);
    assert!(is_served(&first));
    let waits = connect(door);
    until_counted(&program, "evenkeel_upstream_queue_waiting", &[], 1.0);
    let (all, _) = read_to_last(connect(door));
    assert!(all.is_empty());
    until_counted(&program, "evenkeel_upstream_queue_refused_total", &[], 1.0);
    until_counted(&program, "evenkeel_upstream_queue_timeouts_total", &[], 1.0);
    let limit = [("limit", "queue-full")];
    until_counted(&program, "evenkeel_listener_limits_hit_total", &limit, 1.0);
    until_counted(&program, "evenkeel_upstream_queue_waiting", &[], 0.0);
    assert_eq!(scrape(&program).sum("evenkeel_upstream_queue_max", &[]), 1.0);
    drop((first, waits));
}

#[test]
fn handshakes_are_counted_by_what_they_came_to_and_certificates_by_name() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let backend = Recorder::echoing();
    let tls = format!(
        "tls = {{ {}, handshake-timeout = \"1s\", min-version = \"1.3\" }}",
        certificates.pair()
    );
    let program = Program::run(&http_config(&[backend.address()], "", &tls));
    let door = program.address("web");
    for _ in 0..3 {
        assert_eq!(certificates.client(door).get("/").status, 200);
    }
    let failed = "evenkeel_listener_tls_handshakes_failed_total";
    // It does not know who has issued it, and says so.
    assert!(try_connect(door, "a.test", stranger.trusted(&[])).is_err());
    until_counted(&program, failed, &[("cause", "refused-by-client")], 1.0);
    drop(Client::connect(door).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").try_answer(false));
    until_counted(&program, failed, &[("cause", "not-tls")], 1.0);
    let mut half = connect(door);
    half.write_all(&[22, 3, 1, 0, 200, 1]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    until_counted(&program, failed, &[("cause", "gone")], 1.0);
    let mut slow = connect(door);
    slow.write_all(&[22, 3, 1]).unwrap();
    until_counted(&program, failed, &[("cause", "late")], 1.0);
    let mut broken = connect(door);
    broken.write_all(&[22, 3, 1, 0, 5, 9, 9, 9, 9, 9]).unwrap();
    until_counted(&program, failed, &[("cause", "broken-rules")], 1.0);
    let old = Arc::new(rustls_of_version_2());
    assert!(try_connect(door, "a.test", old).is_err());
    until_counted(&program, failed, &[("cause", "nothing-shared")], 1.0);
    // Whoever changes its mind before the first byte has failed at nothing.
    drop(connect(door));
    let ended = [("reason", "client-finished")];
    let all = scrape(&program);
    until_counted(
        &program,
        "evenkeel_listener_connections_ended_total",
        &ended,
        all.sum("evenkeel_listener_connections_ended_total", &ended).max(4.0),
    );
    assert_eq!(all.sum(failed, &[]), 6.0);
    assert_eq!(all.sum("evenkeel_listener_tls_handshakes_total", &[WEB]), 3.0);
    let name = [WEB, ("name", "a.test")];
    let until = all.sum("evenkeel_listener_certificate_expiry_timestamp_seconds", &name);
    // What rcgen makes is valid to the year 4096.
    assert!(until > 4e9, "{until}");
}

/// A client that speaks no other version than 1.2.
fn rustls_of_version_2() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[test]
fn a_client_without_the_certificate_it_has_to_show_is_counted_as_such() {
    let certificates = Certificates::new();
    let backend = Recorder::echoing();
    let ca = certificates.path("a.crt");
    let tls = format!("tls = {{ {}, client-ca = \"{}\" }}", certificates.pair(), ca.display());
    let program = Program::run(&http_config(&[backend.address()], "", &tls));
    let door = program.address("web");
    let client = try_connect(door, "a.test", certificates.trusted(&[]));
    // With TLS 1.3 it believes to be through, and hears of it with its first answer.
    assert!(
        client
            .and_then(|mut client| {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").try_answer(false)
            })
            .is_err()
    );
    let failed = "evenkeel_listener_tls_handshakes_failed_total";
    until_counted(&program, failed, &[("cause", "no-certificate")], 1.0);
    assert_eq!(scrape(&program).sum("evenkeel_listener_tls_handshakes_total", &[]), 0.0);
}

#[test]
fn counts_never_go_back_over_a_reload_and_what_has_left_leaves_the_text() {
    let (one, two) = (Recorder::echoing(), Recorder::echoing());
    let both = [one.address(), two.address()];
    let extra = "[http.extra]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    let program = Program::run(&http_config(&both, "", &format!("\n{extra}")));
    let ask = |listener: &str, times| {
        let mut client = Client::connect(program.address(listener));
        (0..times).for_each(|_| assert_eq!(client.get("/").status, 200));
    };
    ask("web", 10);
    ask("extra", 4);
    let requests = "evenkeel_listener_requests_total";
    until_counted(&program, requests, &[], 14.0);
    let before = scrape(&program);
    let address = of(two.address());
    assert!(before.names("http.extra") && before.names(&address));
    // Another limit makes a new service, upstream and line-up of everything.
    write(&program, &http_config(&both[..1], "queue-max = 9", "requests-max = 900"));
    told(&program, &["reload"]);
    let after = scrape(&program);
    assert!(!after.names("http.extra") && !after.names(&address));
    let mut compared = 0;
    for ((name, labels), count) in &before.samples {
        let is_counter = before.kinds.get(name).is_some_and(|kind| kind == "counter");
        if (is_counter || name.ends_with("_count"))
            && let Some(now) = after.samples.get(&(name.clone(), labels.clone()))
        {
            assert!(now >= count, "{name}{labels:?} went from {count} to {now}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
    assert_eq!(after.sum(requests, &[WEB]), 10.0);
    ask("web", 5);
    until_counted(&program, requests, &[WEB], 15.0);
    let sent = [("backend", &*of(one.address()))].map(|(a, b)| (a, b.to_owned()));
    let sent = sent.each_ref().map(|(a, b)| (*a, &**b));
    assert_eq!(scrape(&program).sum("evenkeel_backend_requests_total", &sent), 7.0 + 5.0);
    let reloads = |result| scrape(&program).sum("evenkeel_reloads_total", &[("result", result)]);
    assert_eq!((reloads("done"), reloads("refused")), (1.0, 0.0));
    assert!(after.sum("evenkeel_last_reload_timestamp_seconds", &[]) > 1.7e9);
    write(&program, "[http.web]\nlisten = 7\n");
    refused(&program, &["reload"], 1);
    assert_eq!((reloads("done"), reloads("refused")), (1.0, 1.0));
}

#[test]
fn an_upgrade_is_counted_by_the_new_process_with_the_connections_it_has_taken_over() {
    let backend = Backend::echo();
    let mut program = Program::run(&config(&[backend.address], "", ""));
    let client = connect(program.address("public"));
    assert!(is_served(&client));
    program.upgrade();
    until_counted(&program, "evenkeel_connections_taken_over_total", &[], 1.0);
    let upgrades = "evenkeel_upgrades_total";
    until_counted(&program, upgrades, &[("result", "done")], 1.0);
    until_counted(&program, upgrades, &[("result", "failed")], 0.0);
    drop(client);
    let ended = "evenkeel_listener_connections_ended_total";
    until_counted(&program, ended, &[PUBLIC, ("reason", "client-finished")], 1.0);
    assert_eq!(scrape(&program).sum("evenkeel_listener_connections_accepted_total", &[]), 0.0);
}

#[test]
fn access_lines_that_no_disk_takes_are_counted() {
    let backend = Recorder::echoing();
    let log = "\n[log]\naccess = \"/dev/full\"\n";
    let program = Program::run(&http_config(&[backend.address()], "", log));
    (0..7).for_each(|_| assert_eq!(Client::connect(program.address("web")).get("/").status, 200));
    until_counted(&program, "evenkeel_log_lines_lost_total", &[("log", "access")], 7.0);
    assert_eq!(scrape(&program).sum("evenkeel_log_lines_lost_total", &[]), 7.0);
}

#[test]
fn the_process_and_its_workers_are_measured() {
    let backend = Backend::echo();
    let limits = "[process]\nworkers = 2\nmemory-max = \"1GB\"\n";
    let program = Program::run(&config(&[backend.address], "", &format!("\n{limits}")));
    crate::support::until_within(Duration::from_secs(10), "both workers are asked", || {
        let all = scrape(&program);
        let asked = |worker| all.sum("evenkeel_worker_delay_seconds_count", &[("worker", worker)]);
        asked("0") >= 2.0 && asked("1") >= 2.0
    });
    let all = scrape(&program);
    let open = all.sum("evenkeel_descriptors_open", &[]);
    let real = program.descriptors() as f64;
    assert!((open - real).abs() <= 3.0, "{open} of {real}");
    assert!(all.sum("evenkeel_descriptors_max", &[]) >= open);
    assert_eq!(all.sum("evenkeel_memory_budget_bytes", &[]), 1e9);
    let (used, heap) = (
        all.sum("evenkeel_memory_used_bytes", &[]),
        all.sum("evenkeel_memory_bytes", &[("owner", "heap")]),
    );
    assert!(used > 1e6 && used < 5e8 && heap > 1e6, "{used} {heap}");
    assert!(all.sum("evenkeel_worker_busy_seconds_total", &[]) > 0.0);
    assert_eq!(all.sum("evenkeel_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(all.sum("evenkeel_start_time_seconds", &[]) > 1.7e9);
    assert_eq!(all.sum("evenkeel_panics_total", &[]), 0.0);
    assert_eq!(all.sum("evenkeel_draining", &[]), 0.0);
}
