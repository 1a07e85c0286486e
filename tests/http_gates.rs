//! What a route demands of a request: refused is what it says, with a reason, and nothing of it reaches a backend.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, Recorder, config, ok, serve};
use crate::support::until;

fn over(recorder: &Recorder, listener: &str) -> (Running, std::net::SocketAddr) {
    serve(&config(&[recorder.address()], "", listener))
}

fn ask(client: &mut Client, fields: &str) -> Answer {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer()
}

#[test]
fn a_client_over_its_rate_is_told_when_to_come_again() {
    let recorder = Recorder::echoing();
    let route = "[[http.web.route]]\npath = \"/a\"\nupstream = \"app\"\nrate-limit = { requests = 1, per = \"1h\", burst = 3 }";
    let (running, door) = over(&recorder, route);
    let mut client = Client::connect(door);
    let statuses: Vec<_> = (0..5).map(|_| client.get("/a").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = client.get("/a");
    assert_eq!(refused.field("x-evenkeel-cause"), Some("limit-rate"));
    let wait: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    // The connection goes on, also to other routes, and another one is the same client.
    assert_eq!(client.get("/b").status, 200);
    assert_eq!(Client::connect(door).get("/a").status, 429);
    assert_eq!(recorder.requests().len(), 4);
    until("refusals are counted", || running.counts().requests[4] == 4);
}

#[test]
fn allowance_comes_back_with_time() {
    let recorder = Recorder::echoing();
    let route = "rate-limit = { requests = 1, per = \"300ms\" }";
    let (_running, door) = over(&recorder, route);
    let mut client = Client::connect(door);
    let began = Instant::now();
    assert_eq!(client.get("/").status, 200);
    until("the next one is let through", || client.get("/").status == 200);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn a_listeners_rate_counts_over_all_routes_and_none() {
    let recorder = Recorder::echoing();
    let listener = "rate-limit = { requests = 3, per = \"1h\" }\n[[http.web.route]]\npath = \"/a\"\nreply = 204";
    let (_running, door) = over(&recorder, listener);
    let mut client = Client::connect(door);
    let statuses: Vec<_> = ["/a", "/b", "/a", "/b"].map(|path| client.get(path).status).into();
    assert_eq!(statuses, [204, 200, 204, 429]);
}

#[test]
fn requests_are_counted_by_header_or_cookie_and_without_it_by_address() {
    for (by, one, other) in [
        ("header:X-Key", "X-Key: 1\r\n", "X-Key: 2\r\n"),
        ("cookie:id", "Cookie: a=b; id=1\r\n", "Cookie: id=2\r\n"),
    ] {
        let recorder = Recorder::echoing();
        let route = format!("rate-limit = {{ requests = 1, per = \"1h\", by = \"{by}\" }}");
        let (_running, door) = over(&recorder, &route);
        let mut client = Client::connect(door);
        let statuses: Vec<_> = [one, other, one, "", "", "X-Other: 1\r\n"]
            .map(|fields| ask(&mut client, fields).status)
            .into();
        assert_eq!(statuses, [200, 200, 429, 200, 429, 429], "{by}");
    }
}

#[test]
fn the_rate_is_that_of_the_client_behind_trusted_proxies_and_cannot_be_forged() {
    let limit = "rate-limit = { requests = 1, per = \"1h\" }";
    let statuses = |listener: &str| -> Vec<u16> {
        let recorder = Recorder::echoing();
        let (_running, door) = over(&recorder, listener);
        let mut client = Client::connect(door);
        ["192.0.2.1", "192.0.2.2", "6.6.6.6, 192.0.2.1", "2001:db8::1", "2001:db8::2"]
            .map(|from| ask(&mut client, &format!("X-Forwarded-For: {from}\r\n")).status)
            .into()
    };
    let trusting = format!("trusted-proxies = \"127.0.0.1\"\n{limit}");
    assert_eq!(statuses(&trusting), [200, 200, 429, 200, 429]);
    assert_eq!(statuses(limit), [200, 429, 429, 429, 429]);
}

/// A backend that answers when it is told to, and says when it was asked.
fn waiting() -> (Backend, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((asked, is_asked), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
    let may_go = std::sync::Mutex::new(may_go);
    let backend = Backend::serving(move |mut stream| {
        let mut head = [0; 4096];
        while stream.read(&mut head)? > 0 {
            let _ = asked.send(());
            let _ = may_go.lock().expect("no panic").recv_timeout(Duration::from_secs(10));
            stream.write_all(&ok(b"done"))?;
        }
        Ok(())
    });
    (backend, is_asked, go)
}

#[test]
fn no_more_requests_than_configured_are_in_flight_on_a_route() {
    let (backend, is_asked, go) = waiting();
    let route = "[[http.web.route]]\npath = \"/a\"\nupstream = \"app\"\nrequests-max = 1";
    let (_running, door) = serve(&config(&[backend.address], "", route));
    let mut first = Client::connect(door);
    first.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    is_asked.recv_timeout(Duration::from_secs(10)).unwrap();
    let refused = Client::connect(door).get("/a");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.field("x-evenkeel-cause"), Some("limit-route"));
    go.send(()).unwrap();
    assert_eq!(first.answer().text(), "done");
    // The place is free again once it was answered, and also when a client went away.
    let mut second = None;
    until("the next request gets the place", || {
        // The answer may be read a moment before its place is given back; then the next one is refused.
        let mut client = Client::connect(door);
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let is_in = is_asked.recv_timeout(Duration::from_millis(500)).is_ok();
        second = is_in.then_some(client);
        is_in
    });
    crate::support::client::reset(second.expect("it got the place").stream.into_inner());
    go.send(()).unwrap();
    go.send(()).unwrap();
    until("the place is free", || Client::connect(door).get("/a").status == 200);
}

#[test]
fn a_tunnel_keeps_its_place_for_as_long_as_it_lasts() {
    let backend = Backend::serving(|mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        )?;
        crate::support::backend::echo(stream)
    });
    let route = "[[http.web.route]]\nupstream = \"app\"\nrequests-max = 1";
    let (_running, door) = serve(&config(&[backend.address], "", route));
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let mut tunnel = Client::connect(door);
    assert_eq!(tunnel.send(upgrade).answer().status, 101);
    assert_eq!(Client::connect(door).send(upgrade).answer().status, 503);
    drop(tunnel);
    until("the place is free", || Client::connect(door).send(upgrade).answer().status == 101);
}

/// A folder with the users `ann` (`secret`) and `bob` (`pass:word`), and the route that asks for them.
fn users(cost: u32, more: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let hash = |password: &str| bcrypt::hash(password, cost).unwrap().replacen("$2b$", "$2y$", 1);
    let text = format!("# staff\nann:{}\nbob:{}\n", hash("secret"), hash("pass:word"));
    std::fs::write(&file, text).unwrap();
    let auth =
        format!("basic-auth = {{ realm = \"staff\", users-file = \"{}\"{more} }}", file.display());
    let route = format!(
        "[[http.web.route]]\npath = \"/in/*\"\nupstream = \"app\"\n{auth}\n\
         request-headers = {{ set = {{ X-User = \"{{user}}\" }} }}\n"
    );
    (folder, route)
}

fn basic(pair: &str) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Authorization: Basic {encoded}\r\n")
}

fn enter(client: &mut Client, fields: &str) -> Answer {
    client.send(format!("GET /in/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer()
}

#[test]
fn only_users_of_the_file_are_let_in_and_the_backend_learns_who() {
    let recorder = Recorder::echoing();
    let (_folder, route) = users(4, "");
    let (running, door) = over(&recorder, &route);
    let mut client = Client::connect(door);
    let asked_for = enter(&mut client, "");
    assert_eq!(asked_for.status, 401);
    assert_eq!(
        asked_for.field("www-authenticate"),
        Some("Basic realm=\"staff\", charset=\"UTF-8\"")
    );
    assert_eq!(asked_for.field("x-evenkeel-cause"), Some("unauthorized"));
    for wrong in ["ann:Secret", "ann:", "ann:pass:word", "eve:secret", ":", "ann"] {
        assert_eq!(enter(&mut client, &basic(wrong)).status, 401, "{wrong}");
    }
    for odd in
        ["Authorization: Bearer x\r\n", "Authorization: Basic !\r\n", "Authorization: Basic\r\n"]
    {
        assert_eq!(enter(&mut client, odd).status, 401, "{odd}");
    }
    assert!(recorder.requests().is_empty());
    // Also the second time, when the pair is known.
    for _ in 0..2 {
        let fields = format!("{}X-User: root\r\n", basic("ann:secret"));
        assert_eq!(enter(&mut client, &fields).status, 200);
    }
    assert_eq!(enter(&mut client, &basic("bob:pass:word")).status, 200);
    // On one connection nobody stays who came before.
    assert_eq!(enter(&mut client, "").status, 401);
    let users: Vec<_> = recorder
        .requests()
        .iter()
        .map(|asked| {
            assert_eq!(asked.field("authorization"), None);
            asked.field("x-user").unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(users, ["ann", "ann", "bob"]);
    assert_eq!(client.get("/").status, 200);
    until("nothing ended badly", || running.counts().ended_by(Why::InternalError) == 0);
}

#[test]
fn repeated_credentials_are_refused_whatever_their_order() {
    let recorder = Recorder::echoing();
    let (_folder, route) = users(4, "");
    let (_running, door) = over(&recorder, &route);
    for fields in [
        basic("ann:secret") + &basic("eve:x"),
        basic("eve:x") + &basic("ann:secret"),
        basic("ann:secret") + &basic("ann:secret"),
    ] {
        let refused = enter(&mut Client::connect(door), &fields);
        assert_eq!(
            (refused.status, refused.field("x-evenkeel-cause")),
            (400, Some("authorization-repeated"))
        );
    }
    assert!(recorder.requests().is_empty());
}

#[test]
fn credentials_are_passed_on_only_where_the_route_says_so() {
    let recorder = Recorder::echoing();
    let (_folder, route) = users(4, ", pass = true");
    let (_running, door) = over(&recorder, &route);
    assert_eq!(enter(&mut Client::connect(door), &basic("ann:secret")).status, 200);
    let passed =
        format!("Authorization: {}\r\n", recorder.requests()[0].field("authorization").unwrap());
    assert_eq!(passed, basic("ann:secret"));
}

#[test]
fn a_slow_password_check_holds_up_nobody_else_on_its_worker() {
    let recorder = Recorder::echoing();
    // Some tenths of a second for each check.
    let (_folder, route) = users(if cfg!(debug_assertions) { 9 } else { 12 }, "");
    let text = config(&[recorder.address()], "", &route);
    let (_running, door) = serve(&format!("{text}[process]\nworkers = 1\n"));
    let mut others = Client::connect(door);
    assert_eq!(others.get("/").status, 200);
    let mut slow: Vec<_> = (0..4).map(|_| Client::connect(door)).collect();
    for (n, client) in slow.iter_mut().enumerate() {
        client.send(format!("GET /in/ HTTP/1.1\r\nHost: a\r\n{}\r\n", basic(&format!("ann:{n}"))));
    }
    for _ in 0..5 {
        assert_eq!(others.get("/").status, 200);
    }
    let last = slow.last_mut().unwrap().stream.get_mut();
    last.set_nonblocking(true).unwrap();
    let pending = last.peek(&mut [0]).unwrap_err();
    assert_eq!(
        pending.kind(),
        std::io::ErrorKind::WouldBlock,
        "the last password is checked already"
    );
    last.set_nonblocking(false).unwrap();
    for mut client in slow {
        assert_eq!(client.answer().status, 401);
    }
}

#[test]
fn gates_stand_before_every_kind_of_target() {
    let recorder = Recorder::echoing();
    for target in ["redirect = \"/x\"", "reply = 204", "files = \".\""] {
        let (_folder, route) = users(4, "");
        let route = route.replace("upstream = \"app\"", target);
        let (_running, door) = over(&recorder, &route);
        assert_eq!(enter(&mut Client::connect(door), "").status, 401, "{target}");
        assert_ne!(enter(&mut Client::connect(door), &basic("ann:secret")).status, 401, "{target}");
    }
    assert!(recorder.requests().is_empty());
}
