//! A new config in the place of the old one while everything goes on: nothing that is open is closed, nothing that stays is
//! forgotten, and what cannot be changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::{Config, ReloadError, Reloaded, Running, Why};
use rustix::process::Signal;

use crate::support::backend::{Backend, dead};
use crate::support::client::{assert_echo, connect, is_served, visit};
use crate::support::h2::H2Client;
use crate::support::http::{self, Client, Recorder, ok};
use crate::support::packets::{BY_PACKET, exchange, three};
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::{backend_counts, config, serve, start, until, until_ended, until_state};

/// Puts a config into force.
fn reload(running: &Running, config: &str) -> Reloaded {
    try_reload(running, config).unwrap_or_else(|error| panic!("{error}"))
}

fn try_reload(running: &Running, config: &str) -> Result<Reloaded, ReloadError> {
    let quiet = if config.contains("[log]") { "" } else { "\n[log]\naccess = \"off\"\n" };
    let config = Config::parse(&format!("{config}{quiet}"));
    running.reload(config.unwrap_or_else(|problems| panic!("{problems}")))
}

#[test]
fn connections_go_by_the_new_backends_and_those_that_are_open_go_on() {
    let (old, new) = (Backend::echo(), Backend::named("new"));
    let (running, door) = serve(&config(&[old.address], "", ""));
    let mut open = connect(door);
    assert_echo(&mut open, b"before");
    let done = reload(&running, &config(&[new.address], "", ""));
    let lists = format!("upstream.app.backends: +\"{}\" -\"{}\"", new.address, old.address);
    assert_eq!((done.changes, done.after_restart), (vec![lists], vec![]));
    assert_eq!(running.addresses("public"), [door]);
    assert_eq!(visit(door), "new");
    assert_echo(&mut open, b"after");
    until("the visitor has left", || running.counts().open == 1);
    assert!(reload(&running, &config(&[new.address], "", "")).changes.is_empty());
}

#[test]
fn a_backend_that_stays_keeps_its_health_its_counts_and_its_open_connections() {
    let (one, gone) = (Backend::echo(), dead());
    let health = "health = { every = \"20ms\", fall = 1 }";
    let (running, door) = serve(&config(&[one.address, gone], health, ""));
    until_state(&running, gone, "unhealthy");
    let mut open = connect(door);
    assert_echo(&mut open, b"hello");
    let other = Backend::echo();
    let upstream = format!("{health}\nbalance = \"least-connections\"");
    reload(&running, &config(&[gone, one.address, other.address], &upstream, ""));
    // At once, and not after the next check.
    assert_eq!(backend_counts(&running, gone).state, "unhealthy");
    let counts = backend_counts(&running, one.address);
    assert_eq!((counts.open, counts.connections), (1, 1));
    // The one that has a connection is passed over.
    let mut next = connect(door);
    assert_echo(&mut next, b"hello");
    assert_eq!(backend_counts(&running, other.address).open, 1);
    drop((open, next));
    until("both have ended", || backend_counts(&running, one.address).open == 0);
    assert_eq!(backend_counts(&running, one.address).connections, 1);
}

#[test]
fn a_changed_weight_is_no_new_backend() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let weighted = |weight: u32| {
        let backends =
            format!("\"{}\", {{ address = \"{}\", weight = {weight} }}", one.address, two.address);
        crate::support::config_with(&backends, "slow-start = \"10s\"", "")
    };
    let (running, door) = serve(&weighted(1));
    let shares = |door| {
        let visits: String = (0..30).map(|_| visit(door)).collect();
        ["1", "2"].map(|name| visits.matches(name).count())
    };
    assert_eq!(shares(door), [15, 15]);
    reload(&running, &weighted(2));
    // It does not start slowly again.
    assert_eq!(shares(door), [10, 20]);
    assert_eq!(backend_counts(&running, two.address).connections, 35);
    reload(&running, &weighted(0));
    assert_eq!(shares(door), [30, 0]);
    assert_eq!(backend_counts(&running, two.address).state, "drained");
}

#[test]
fn requests_of_one_connection_go_by_the_config_of_their_moment() {
    let (old, new) = (Recorder::answering(|_| ok(b"old")), Recorder::answering(|_| ok(b"new")));
    let (running, door) = http::serve(&http::config(&[old.address()], "", ""));
    let mut client = Client::connect(door);
    let h2 = H2Client::connect(door);
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(h2.get("/").text(), "old");
    // The head of a request is on its way already.
    let mut begun = Client::connect(door);
    assert_eq!(begun.get("/").text(), "old");
    begun.send("GET / HT");
    reload(&running, &http::config(&[new.address()], "", ""));
    assert_eq!(client.get("/").text(), "new");
    assert_eq!(h2.get("/").text(), "new");
    begun.send("TP/1.1\r\nHost: a\r\n\r\n");
    assert!(["old", "new"].contains(&&*begun.answer().text()));
    assert_eq!(begun.get("/").text(), "new");
    // Routes too, and back again.
    let route = "[[http.web.route]]\npath = \"/here\"\nreply = 410";
    reload(&running, &http::config(&[new.address()], "", route));
    assert_eq!(client.get("/here").status, 410);
    assert_eq!(h2.get("/here").status, 410);
    reload(&running, &http::config(&[old.address()], "", ""));
    assert_eq!(client.get("/here").text(), "old");
    assert_eq!(running.counts().open, 3);
}

#[test]
fn kept_connections_to_backends_that_stay_are_used_again() {
    let accepted = Backend::serving(|mut stream| {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes)? > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let one = "[process]\nworkers = 1\n";
    let with = |upstream: &str| format!("{}{one}", http::config(&[accepted.address], upstream, ""));
    let (running, door) = http::serve(&with(""));
    let mut client = Client::connect(door);
    assert_eq!(client.get("/").text(), "ok");
    for upstream in ["balance = \"random\"", "response-timeout = \"9s\"", ""] {
        reload(&running, &with(upstream));
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(accepted.accepted(), 1);
    // One that would be made in another way is made anew.
    reload(&running, &with("nodelay = false"));
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(accepted.accepted(), 2);
}

#[test]
fn connections_whose_backend_has_left_go_on_or_end_in_time_by_choice() {
    let (stays, leaves, other) = (Backend::echo(), Backend::echo(), Backend::echo());
    let with = |to: &[SocketAddr], choice: &str, further: &str| {
        let process =
            format!("[process]\ndrain-timeout = \"300ms\"\nremoved-backends = \"{choice}\"\n");
        let other = format!("[upstream.other]\nbackends = \"{}\"\n", other.address);
        format!(
            "{process}{}{}{further}",
            config(to, "", ""),
            other.repeat(usize::from(!further.is_empty()))
        )
    };
    let second = "[tcp.second]\nlisten = \"127.0.0.1:0\"\nupstream = \"other\"\n";
    for choice in ["keep", "drain"] {
        let (running, door) = serve(&with(&[stays.address, leaves.address], choice, second));
        let open = [door, door, running.addresses("second")[0]].map(|door| {
            let client = connect(door);
            assert_echo(&client, b"hello");
            client
        });
        reload(&running, &with(&[stays.address], choice, ""));
        open.iter().for_each(|client| assert_echo(client, b"still here"));
        if choice == "keep" {
            std::thread::sleep(Duration::from_millis(600));
            open.iter().for_each(|client| assert_echo(client, b"still here"));
            continue;
        }
        // The one whose backend has left has to go, and the one whose upstream has.
        until_ended(&running, Why::DrainCut, 2);
        assert_echo(&open[0], b"still here");
        assert_eq!(running.counts().open, 1);
    }
}

#[test]
fn packets_of_one_connection_go_to_the_backends_of_their_moment() {
    let (_backends, addresses) = three(Duration::ZERO);
    let (running, door) = serve(&config(&addresses[..1], "", BY_PACKET));
    let mut client = connect(door);
    assert_eq!(exchange(&mut client, 0..6), "AAAAAA");
    reload(&running, &config(&addresses[1..], "", BY_PACKET));
    let names = exchange(&mut client, 6..12);
    assert_eq!(["A", "B", "C"].map(|name| names.matches(name).count()), [0, 3, 3]);
    assert_eq!(running.counts().open, 1);
}

#[test]
fn listeners_come_move_and_go_and_what_they_accepted_stays() {
    let (one, two) = (Backend::echo(), Backend::named("2"));
    let with = |listeners: &str| {
        format!(
            "[upstream.one]\nbackends = \"{}\"\n[upstream.two]\nbackends = \"{}\"\n{listeners}",
            one.address, two.address
        )
    };
    let listener = |name: &str, address: &str, upstream: &str| {
        format!("[tcp.{name}]\nlisten = {address}\nupstream = \"{upstream}\"\n")
    };
    let running = start(&with(&listener("a", "\"127.0.0.1:0\"", "one")));
    let first = running.addresses("a")[0];
    let mut open = connect(first);
    assert_echo(&mut open, b"hello");
    // Another one beside it.
    let both = with(
        &[listener("a", "\"127.0.0.1:0\"", "one"), listener("b", "\"127.0.0.2:0\"", "two")]
            .concat(),
    );
    assert_eq!(reload(&running, &both).changes, ["tcp.b: new"]);
    let second = running.addresses("b")[0];
    assert_eq!(visit(second), "2");
    // Addresses are written in another way, and change hands.
    let moved = with(
        &[
            listener("a", &format!("[\"{second}\", \"127.0.0.3:0\"]"), "one"),
            listener("c", &format!("\"{first}\""), "two"),
        ]
        .concat(),
    );
    reload(&running, &moved);
    assert_eq!(running.addresses("c"), [first]);
    assert_eq!(running.addresses("a").len(), 2);
    assert_eq!(visit(first), "2");
    assert_echo(connect(second), b"hello");
    assert_echo(connect(running.addresses("a")[1]), b"hello");
    // And one goes.
    reload(&running, &with(&listener("c", &format!("\"{first}\""), "two")));
    until("its address is closed", || TcpStream::connect(second).is_err());
    assert!(running.addresses("a").is_empty());
    assert_echo(&mut open, b"still here");
}

#[test]
fn a_port_may_be_listened_on_at_more_or_fewer_addresses_and_in_another_way() {
    let backend = Backend::echo();
    let with = |listen: &str, listener: &str| {
        let listen = format!("listen = {listen}");
        config(&[backend.address], "", listener).replace("listen = \"127.0.0.1:0\"", &listen)
    };
    let (running, door) = serve(&with("\"127.0.0.1:0\"", ""));
    let port = door.port();
    let open = connect(door);
    assert_echo(&open, b"hello");
    for listen in [format!("\":{port}\""), format!("\"127.0.0.1:{port}\"")] {
        reload(&running, &with(&listen, "nodelay = false\nkeepalive = \"on\""));
        assert_echo(connect(door), b"hello");
        reload(&running, &with(&listen, ""));
        assert_echo(connect(door), b"hello");
    }
    assert_echo(&open, b"still here");
}

#[test]
fn http_connections_of_a_listener_that_moves_go_on_and_of_one_that_leaves_end_in_order() {
    let (old, new) = (Recorder::answering(|_| ok(b"old")), Recorder::answering(|_| ok(b"new")));
    let (running, door) = http::serve(&http::config(&[old.address()], "", ""));
    let mut client = Client::connect(door);
    let h2 = H2Client::connect(door);
    assert_eq!((client.get("/").text(), h2.get("/").text()), ("old".into(), "old".into()));
    let moved = http::config(&[new.address()], "", "").replace("127.0.0.1:0", "127.0.0.2:0");
    reload(&running, &moved);
    assert_eq!((client.get("/").text(), h2.get("/").text()), ("new".into(), "new".into()));
    reload(&running, &config(&[new.address()], "", ""));
    assert!(client.is_closed());
    // Its client has to hear of it.
    until("both have ended", || {
        h2.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
        running.counts().open == 0
    });
}

#[test]
fn packet_connections_whose_upstream_leaves_end_in_order() {
    let (_backends, addresses) = three(Duration::ZERO);
    let (running, door) = serve(&config(&addresses, "", BY_PACKET));
    let mut client = connect(door);
    exchange(&mut client, 0..6);
    let other = config(&addresses, "", BY_PACKET).replace("app", "other");
    reload(&running, &other);
    until_ended(&running, Why::ClientFinished, 1);
    exchange(&mut connect(door), 0..6);
}

#[test]
fn an_unhealthy_backend_is_back_at_once_where_nobody_asks_any_more() {
    let backend = Backend::named("1");
    let health = "health = { http = \"/none\", every = \"20ms\", timeout = \"20ms\", fall = 1 }";
    let (running, door) = serve(&config(&[backend.address], health, ""));
    until_state(&running, backend.address, "unhealthy");
    reload(&running, &config(&[backend.address], "", ""));
    until_state(&running, backend.address, "healthy");
    assert_eq!(visit(door), "1");
}

#[test]
fn unix_sockets_stay_while_they_are_wanted() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let with = |further: &str| {
        let listen = format!("listen = [\"127.0.0.1:0\"{further}]");
        config(&[backend.address], "", "").replace("listen = \"127.0.0.1:0\"", &listen)
    };
    let unix = format!(", \"unix:{}\"", path.display());
    let (running, _) = serve(&with(&unix));
    reload(&running, &with(&format!("{unix}, \"127.0.0.9:0\"")));
    assert_echo(std::os::unix::net::UnixStream::connect(&path).unwrap(), b"hello");
    reload(&running, &with(""));
    until("its file is gone", || !path.exists());
    reload(&running, &with(&unix));
    assert_echo(std::os::unix::net::UnixStream::connect(&path).unwrap(), b"hello");
    drop(running);
    assert!(!path.exists());
}

#[test]
fn limits_count_those_who_are_inside_already() {
    let backend = Backend::echo();
    let with = |listener: &str| config(&[backend.address], "", listener);
    let (running, door) = serve(&with("connections-max = 3"));
    let inside: Vec<_> = (0..3).map(|_| connect(door)).collect();
    inside.iter().for_each(|client| assert_echo(client, b"hello"));
    assert!(!is_served(connect(door)));
    reload(&running, &with("connections-max = 4"));
    let fourth = connect(door);
    assert_echo(&fourth, b"hello");
    assert!(!is_served(connect(door)));
    reload(&running, &with("connections-max = 2"));
    drop(fourth);
    until("it has left", || running.counts().open == 3);
    assert!(!is_served(connect(door)));
    inside.iter().for_each(|client| assert_echo(client, b"still here"));
    let networks = "deny = \"127.0.0.0/8\"";
    reload(&running, &with(networks));
    assert!(!is_served(connect(door)));
    inside.iter().for_each(|client| assert_echo(client, b"still here"));
}

#[test]
fn what_cannot_be_changes_nothing() {
    let backend = Backend::named("1");
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Backend::named("2");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = format!(
        "[tcp.second]\nlisten = [\"127.0.0.1:0\", \"unix:{}\", \"{}\"]\nupstream = \"app\"",
        socket.display(),
        taken.local_addr().unwrap()
    );
    let error = try_reload(&running, &config(&[other.address], "", &listener)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("[tcp.second]") && said.contains("another process listens"), "{said}");
    assert!(!socket.exists() && running.addresses("second").is_empty());
    assert_eq!(visit(door), "1");
    assert_eq!(running.backends().len(), 1);
    // Once it is free, the same config is fine.
    drop(taken);
    reload(&running, &config(&[other.address], "", &listener));
    assert_eq!(visit(door), "2");
}

#[test]
fn what_takes_a_restart_is_named() {
    let backend = Backend::echo();
    let with =
        |process: &str| format!("[process]\n{process}\n{}", config(&[backend.address], "", ""));
    let (running, door) = serve(&with("workers = 1"));
    let done = reload(&running, &with("workers = 2\nnameservers = [\"127.0.0.1:53\"]"));
    assert_eq!(done.after_restart, ["process.workers", "process.nameservers"]);
    assert_echo(connect(door), b"hello");
}

#[test]
fn certificates_and_demands_of_tls_change_and_the_rest_keeps_its_tickets() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let recorder = Recorder::answering(|_| ok(b"hello"));
    let with = |certificates: &Certificates, further: &str| {
        let tls = format!("tls = {{ {} }}\n{further}", certificates.pair());
        http::config(&[recorder.address()], "", &tls)
    };
    let (running, door) = http::serve(&with(&certificates, ""));
    let config = certificates.trusted(&["http/1.1"]);
    let visit = |config: &std::sync::Arc<rustls::ClientConfig>| {
        let mut client =
            crate::support::tls::connect(door, "a.test", std::sync::Arc::clone(config));
        assert_eq!(client.get("/").text(), "hello");
        client.stream.get_ref().conn.handshake_kind()
    };
    visit(&config);
    reload(&running, &with(&certificates, "connections-max = 100"));
    assert_eq!(visit(&config), Some(rustls::HandshakeKind::Resumed));
    let mut open = certificates.client(door);
    reload(&running, &with(&others, ""));
    visit(&others.trusted(&["http/1.1"]));
    assert_eq!(open.get("/").text(), "hello");
}

#[test]
fn the_access_log_moves_to_another_file() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let with = |name: &str| {
        let log = format!("[log]\naccess = \"{}\"\n", path(name).display());
        format!("{}{log}", config(&[backend.address], "", ""))
    };
    let (running, door) = serve(&with("one"));
    assert_echo(connect(door), b"hello");
    until_ended(&running, Why::ClientFinished, 1);
    reload(&running, &with("two"));
    assert_echo(connect(door), b"hello");
    until_ended(&running, Why::ClientFinished, 2);
    for name in ["one", "two"] {
        let lines = || std::fs::read_to_string(path(name)).unwrap_or_default().lines().count();
        until(&format!("a line in {name}"), || lines() == 1);
    }
}

/// A program with its config in a file that may be written anew.
fn program(first: &str) -> (Program, std::path::PathBuf) {
    let program = Program::run(first);
    let file = program.folder().join("evenkeel.toml");
    (program, file)
}

#[test]
fn hup_reads_the_file_anew_and_a_bad_one_is_named_and_changes_nothing() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let (program, file) = program(&config(&[one.address], "", ""));
    let door = program.address("public");
    assert_eq!(visit(door), "1");
    std::fs::write(&file, config(&[two.address], "", "idle-timout = \"1s\"")).unwrap();
    program.signal(Signal::HUP);
    program.until_said("reload refused, nothing has changed");
    program.until_said("did you mean \"idle-timeout\"?");
    assert!(program.diagnostics().contains("evenkeel.toml:7:1"), "{}", program.diagnostics());
    assert_eq!(visit(door), "1");
    std::fs::write(&file, config(&[two.address], "", "")).unwrap();
    program.signal(Signal::HUP);
    program.until_said("evenkeel.toml; 1 changes");
    assert_eq!(visit(door), "2");
}

#[test]
fn a_file_that_is_watched_is_read_when_it_has_changed() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let watched = |to: SocketAddr| {
        format!("include = \"parts/*.toml\"\n[process]\nwatch = true\n{}", config(&[to], "", ""))
    };
    let (program, file) = program(&watched(one.address));
    std::fs::create_dir(program.folder().join("parts")).unwrap();
    let door = program.address("public");
    assert_eq!(visit(door), "1");
    std::fs::write(&file, watched(two.address)).unwrap();
    program.until_said("reloaded ");
    assert_eq!(visit(door), "2");
    // What comes to be included counts too.
    let included = "[tcp.more]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    std::fs::write(program.folder().join("parts/more.toml"), included).unwrap();
    program.until_said("tcp.more: new");
}
