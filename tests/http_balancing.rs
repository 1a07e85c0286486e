//! Which backend a request goes to: by a part of it, by what is in flight, by a cookie, by the share of a split.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use evenkeel::Running;

use crate::support::http::{Answer, Asked, Client, Recorder, config, ok, serve};
use crate::support::until;

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

fn four() -> Vec<Recorder> {
    NAMES.map(|name| Recorder::answering(move |_| ok(name.as_bytes()))).into()
}

fn addresses(backends: &[Recorder]) -> Vec<SocketAddr> {
    backends.iter().map(Recorder::address).collect()
}

/// Asks for a path with these header lines, each ended by CRLF.
fn ask(client: &mut Client, path: &str, lines: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n{lines}\r\n")).answer()
}

/// The name and value of the only cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let set: Vec<_> = answer.fields.iter().filter(|(name, _)| name == "set-cookie").collect();
    let [(_, set)] = &set[..] else { panic!("not one cookie: {:?}", answer.fields) };
    set.split(';').next().expect("split yields one").to_owned()
}

fn with_cookie(client: &mut Client, cookie: &str) -> Answer {
    ask(client, "/", &format!("Cookie: {cookie}\r\n"))
}

#[test]
fn hash_by_any_part_of_a_request_keeps_one_user_and_spreads_many() {
    type Spell = fn(usize) -> (String, String);
    let parts: [(&str, Spell); 6] = [
        ("header:x-user", |n| ("/".to_owned(), format!("X-User: user-{n}\r\n"))),
        ("header:host", |n| ("/".to_owned(), format!("X-Nothing: {n}\r\n"))),
        ("cookie:id", |n| ("/".to_owned(), format!("Cookie: a=b; id={n}\r\n"))),
        ("path", |n| (format!("/user/{n}"), String::new())),
        ("query:user", |n| (format!("/?a=b&user={n}"), String::new())),
        ("uri", |n| (format!("/?{n}"), String::new())),
    ];
    for (part, spell) in parts {
        for on in ["maglev", "ring", "rendezvous"] {
            let backends = four();
            let balance = format!("balance = {{ hash = \"{part}\", on = \"{on}\" }}");
            let (_running, door) = serve(&config(&addresses(&backends), &balance, ""));
            let mut met = [Vec::new(), Vec::new()];
            for names in &mut met {
                let mut client = Client::connect(door);
                names.extend((0..60).map(|n| {
                    let (path, lines) = spell(n);
                    ask(&mut client, &path, &lines).text()
                }));
            }
            assert_eq!(met[0], met[1], "{part} on {on}");
            let different: BTreeSet<_> = met[0].iter().collect();
            // Every request here has the same host.
            let expected = if part == "header:host" { 1 } else { 4 };
            assert_eq!(different.len(), expected, "{part} on {on}: {:?}", met[0]);
        }
    }
}

#[test]
fn a_request_without_the_part_goes_by_its_clients_address() {
    let backends = four();
    let balance = "balance = { hash = \"cookie:id\" }";
    let (_running, door) = serve(&config(&addresses(&backends), balance, ""));
    let mut client = Client::connect(door);
    let names: BTreeSet<_> = (0..20)
        .map(|n| ask(&mut client, &format!("/{n}"), "Cookie: id=; other=1\r\n").text())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let reference = serve(&config(&addresses(&backends), "balance = \"hash\"", ""));
    assert_eq!(names.first(), Some(&Client::connect(reference.1).get("/").text()));
}

/// Backends that hold back each answer to `/slow` until they are let go.
fn holding() -> (Vec<Recorder>, mpsc::Receiver<()>, Arc<AtomicBool>) {
    let (begun, has_begun) = mpsc::channel();
    let begun = Mutex::new(begun);
    let (begun, go) = (Arc::new(begun), Arc::new(AtomicBool::new(false)));
    let backends = ["A", "B"].map(|name| {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        Recorder::answering(move |request| {
            if request.line.contains("/slow") {
                begun.lock().expect("no panic").send(()).expect("the test listens");
                until("the answer is let go", || go.load(SeqCst));
            }
            ok(name.as_bytes())
        })
    });
    (backends.into(), has_begun, go)
}

/// Waits until nothing is in flight: a client has its answer a moment before the place is free.
fn until_free(running: &Running, backends: &[Recorder]) {
    until("nothing is in flight", || running.backends().iter().all(|counts| counts.open == 0));
    assert_eq!(running.backends().len(), backends.len());
}

#[test]
fn least_connections_counts_requests_in_flight_and_not_connections() {
    let (backends, has_begun, go) = holding();
    let settings = "balance = \"least-connections\"";
    let (running, door) = serve(&config(&addresses(&backends), settings, ""));
    // These stay connected, with nothing to do.
    let mut idle: Vec<_> = (0..5).map(|_| Client::connect(door)).collect();
    idle.iter_mut().for_each(|client| drop(client.get("/")));
    until_free(&running, &backends);
    let mut slow = Client::connect(door);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    has_begun.recv_timeout(Duration::from_secs(10)).expect("the request arrives");
    let others: BTreeSet<_> = (0..6).map(|_| idle[0].get("/").text()).collect();
    go.store(true, SeqCst);
    let busy = slow.answer().text();
    until_free(&running, &backends);
    assert_eq!(others.len(), 1, "{others:?}");
    assert!(!others.contains(&busy), "{busy} was busy, and got {others:?}");
    // With nothing in flight they take turns again, whoever is connected.
    let names: BTreeSet<_> = (0..6).map(|_| idle[0].get("/").text()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_sticky_cookie_keeps_a_client_and_tells_it_no_address() {
    let backends = four();
    let settings = "sticky = \"evenkeel\"";
    let (_running, door) = serve(&config(&addresses(&backends), settings, ""));
    let first = Client::connect(door).get("/");
    let set = first.field("set-cookie").expect("a cookie");
    let (pair, attributes) = set.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix("evenkeel=").expect("its name");
    assert!(value.len() == 72 && value.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
    for lines in
        [format!("Cookie: {pair}\r\n"), format!("Cookie: a=1; {pair}; b=2\r\nCookie: c=3\r\n")]
    {
        for _ in 0..6 {
            let again = ask(&mut Client::connect(door), "/", &lines);
            assert_eq!(again.text(), first.text());
            assert_eq!(again.field("set-cookie"), None, "it knows already");
        }
    }
    // What is between the client and us is not for the backend; the rest is as it was sent.
    let asked: Vec<_> = backends.iter().flat_map(Recorder::requests).collect();
    let cookies = |asked: &Asked| {
        let found = asked.fields.iter().filter(|(name, _)| name == "cookie");
        found.map(|(_, value)| value.clone()).collect::<Vec<_>>().join(" | ")
    };
    let seen: BTreeSet<_> = asked.iter().map(cookies).collect();
    assert_eq!(seen, BTreeSet::from([String::new(), "a=1; b=2 | c=3".to_owned()]));
}

#[test]
fn sessions_take_nobody_elses_turn() {
    let backends = four();
    let settings = "sticky = \"evenkeel\"";
    let (_running, door) = serve(&config(&addresses(&backends), settings, ""));
    let mut client = Client::connect(door);
    let mut newcomers = String::new();
    for _ in 0..8 {
        let first = client.get("/");
        newcomers += &first.text();
        assert_eq!(with_cookie(&mut client, &cookie(&first)).text(), first.text());
    }
    assert_eq!(newcomers, "ABCDABCD");
}

/// A config whose sticky cookies are signed with a key of this folder.
fn keyed(folder: &Path, backends: &str) -> String {
    let key = folder.join("sticky.key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").expect("write a key");
    format!(
        "[upstream.app]\nbackends = [{backends}]\n\
         sticky = {{ cookie = \"evenkeel\", key-file = \"{}\", max-age = \"8h\" }}\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        key.display()
    )
}

#[test]
fn a_sticky_cookie_survives_a_restart_and_a_change_of_the_list() {
    let backends = four();
    let list = |order: &[usize]| {
        let one = |at: &usize| format!("\"{}\"", backends[*at].address());
        order.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (running, door) = serve(&keyed(folder.path(), &list(&[0, 1, 2])));
    let mut client = Client::connect(door);
    let sessions: Vec<_> = (0..3).map(|_| client.get("/")).collect();
    assert!(sessions[0].field("set-cookie").expect("a cookie").ends_with("; Max-Age=28800"));
    running.stop();
    let (running, door) = serve(&keyed(folder.path(), &list(&[3, 2, 1, 0])));
    let mut client = Client::connect(door);
    for session in &sessions {
        let again = with_cookie(&mut client, &cookie(session));
        assert_eq!((again.text(), again.field("set-cookie")), (session.text(), None));
    }
    running.stop();
    // Who was with a backend that is gone gets another one, and a cookie for it.
    let (_running, door) = serve(&keyed(folder.path(), &list(&[3])));
    let moved = with_cookie(&mut Client::connect(door), &cookie(&sessions[0]));
    assert_eq!(moved.text(), "D");
    assert_ne!(cookie(&moved), cookie(&sessions[0]));
}

#[test]
fn sessions_of_a_drained_backend_go_on_and_no_new_ones_begin() {
    let backends = four();
    let folder = tempfile::tempdir().expect("a folder");
    let list = |weight: u32| {
        let (a, b) = (backends[0].address(), backends[1].address());
        format!("{{ address = \"{a}\", weight = {weight} }}, \"{b}\"")
    };
    let (running, door) = serve(&keyed(folder.path(), &list(1)));
    let session = Client::connect(door).get("/");
    assert_eq!(session.text(), "A");
    running.stop();
    let (_running, door) = serve(&keyed(folder.path(), &list(0)));
    let mut client = Client::connect(door);
    for _ in 0..4 {
        assert_eq!(with_cookie(&mut client, &cookie(&session)).text(), "A");
        assert_eq!(client.get("/").text(), "B");
    }
}

#[test]
fn a_key_file_that_cannot_be_read_is_named_instead_of_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = keyed(folder.path(), "\"127.0.0.1:1\"");
    std::fs::remove_file(folder.path().join("sticky.key")).expect("remove the key");
    let error = crate::support::try_start(&text).expect_err("there is no key").to_string();
    let path = folder.path().join("sticky.key");
    assert!(error.starts_with(&format!("sticky: key-file {}: ", path.display())), "{error}");
}

#[test]
fn forged_cookies_are_ignored_and_replaced() {
    let backends = four();
    let settings = "sticky = \"evenkeel\"";
    let (_running, door) = serve(&config(&addresses(&backends), settings, ""));
    let mut client = Client::connect(door);
    let good = cookie(&client.get("/"));
    let last = if good.ends_with('0') { "1" } else { "0" };
    let forged = [
        "evenkeel=".to_owned(),
        "evenkeel".to_owned(),
        format!("{}{last}", &good[..good.len() - 1]),
        good.to_uppercase().replace("EVENKEEL", "evenkeel"),
        format!("{good}00"),
        format!("evenkeel={}", backends[2].address()),
        format!("evenkeel={}", "0".repeat(72)),
        format!("evenkeel={}", "f".repeat(4_000)),
    ];
    let mut met = BTreeSet::new();
    for forged in &forged {
        let answer = with_cookie(&mut client, forged);
        met.insert(answer.text());
        assert_ne!(&cookie(&answer), forged);
    }
    assert_eq!(met.len(), 4, "they come in turn, as if they had none: {met:?}");
}

#[test]
fn a_session_moves_when_its_backend_is_gone_or_full_and_stays_there() {
    let (mut backends, has_begun, go) = holding();
    let list: Vec<_> = addresses(&backends)
        .iter()
        .map(|address| format!("{{ address = \"{address}\", connections-max = 1 }}"))
        .collect();
    let text = format!(
        "[upstream.app]\nbackends = [{}]\nsticky = \"evenkeel\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        list.join(", ")
    );
    let (running, door) = serve(&text);
    let mut client = Client::connect(door);
    let first = client.get("/");
    assert_eq!(first.text(), "A");
    until_free(&running, &backends);
    let mut slow = Client::connect(door);
    let line = format!("GET /slow HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", cookie(&first));
    slow.send(line);
    has_begun.recv_timeout(Duration::from_secs(10)).expect("the request arrives");
    let moved = with_cookie(&mut client, &cookie(&first));
    assert_eq!(moved.text(), "B", "A is full");
    go.store(true, SeqCst);
    assert_eq!(slow.answer().text(), "A");
    until_free(&running, &backends);
    assert_eq!(with_cookie(&mut client, &cookie(&moved)).text(), "B", "it stays");
    // B does not listen any more, and what was kept to it is closed with its client.
    let gone = backends.remove(1);
    let (_again, elsewhere) = serve(
        &text.replace(&gone.address().to_string(), &crate::support::backend::dead().to_string()),
    );
    let moved = with_cookie(&mut Client::connect(elsewhere), &cookie(&moved));
    assert_eq!(moved.text(), "A");
    assert!(!cookie(&moved).is_empty());
}

#[test]
fn attributes_of_the_cookie_are_those_of_the_config_and_of_the_clients_side() {
    let backend = Recorder::echoing();
    let attributes = |sticky: &str, listener: &str, lines: &str| {
        let settings = format!("sticky = {{ cookie = \"s\", {sticky} }}");
        let (_running, door) = serve(&config(&[backend.address()], &settings, listener));
        let answer = ask(&mut Client::connect(door), "/", lines);
        answer.field("set-cookie").unwrap().split_once("; ").unwrap().1.to_owned()
    };
    let tls = "X-Forwarded-Proto: https\r\n";
    let trusted = "trusted-proxies = \"127.0.0.1\"";
    for (sticky, listener, lines, expected) in [
        ("same-site = \"strict\"", "", "", "Path=/; HttpOnly; SameSite=Strict"),
        ("secure = \"always\"", "", "", "Path=/; HttpOnly; SameSite=Lax; Secure"),
        ("secure = \"auto\"", "", tls, "Path=/; HttpOnly; SameSite=Lax"),
        ("secure = \"auto\"", trusted, tls, "Path=/; HttpOnly; SameSite=Lax; Secure"),
        ("secure = \"never\"", trusted, tls, "Path=/; HttpOnly; SameSite=Lax"),
        (
            "same-site = \"none\", secure = \"always\", max-age = \"1h\"",
            "",
            "",
            "Path=/; HttpOnly; SameSite=None; Secure; Max-Age=3600",
        ),
    ] {
        assert_eq!(attributes(sticky, listener, lines), expected, "{sticky}");
    }
}

#[test]
fn a_switch_to_another_protocol_sets_the_cookie_too() {
    let switching = || {
        Recorder::answering(|_| {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                .to_vec()
        })
    };
    let backends = [switching(), switching()];
    let settings = "sticky = \"evenkeel\"";
    let (_running, door) = serve(&config(&addresses(&backends), settings, ""));
    let upgrade = "Connection: upgrade\r\nUpgrade: echo\r\n";
    let answer = ask(&mut Client::connect(door), "/", upgrade);
    assert_eq!(answer.status, 101);
    let again = format!("{upgrade}Cookie: {}\r\n", cookie(&answer));
    (0..3).for_each(|_| assert_eq!(ask(&mut Client::connect(door), "/", &again).status, 101));
    let counts = backends.each_ref().map(|backend| backend.requests().len());
    assert_eq!(counts, [4, 0], "all of them at the first one's");
}

fn split(backends: &[Recorder], cookie: &str) -> String {
    format!(
        "[upstream.blue]\nbackends = \"{}\"\n[upstream.green]\nbackends = \"{}\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\n{cookie}\n\
         split = [{{ upstream = \"blue\", weight = 95 }}, {{ upstream = \"green\", weight = 5 }}]\n",
        backends[0].address(),
        backends[1].address()
    )
}

#[test]
fn a_split_gives_each_upstream_exactly_its_share_from_all_clients_together() {
    let backends = four();
    let (_running, door) = serve(&split(&backends, ""));
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(door)).collect();
    for _ in 0..10 {
        let round = (0..20).map(|number| clients[number % 4].get("/").text());
        assert_eq!(round.filter(|name| name == "B").count(), 1, "5 of 100, spread out");
    }
}

#[test]
fn a_split_cookie_keeps_a_client_with_its_choice_and_takes_nobodys_turn() {
    let backends = four();
    let (_running, door) = serve(&split(&backends, "split-cookie = \"side\""));
    let mut client = Client::connect(door);
    let mut sessions = BTreeMap::new();
    for _ in 0..40 {
        let answer = client.get("/");
        assert!(answer.field("set-cookie").unwrap().ends_with("; Path=/; HttpOnly; SameSite=Lax"));
        let count = sessions.entry(answer.text()).or_insert((0, cookie(&answer)));
        count.0 += 1;
        let again = with_cookie(&mut client, &cookie(&answer));
        assert_eq!((again.text(), again.field("set-cookie")), (answer.text(), None));
    }
    assert_eq!((sessions["A"].0, sessions["B"].0), (38, 2));
    let forged = sessions["B"].1.replace("side=", "side=0");
    assert_ne!(cookie(&with_cookie(&mut client, &forged)), forged);
    assert!(backends[1].requests().iter().all(|asked| asked.field("cookie").is_none()));
}
