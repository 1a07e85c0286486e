//! Another server decides what passes: its yes brings its headers along, its no reaches the client as it said it, and
//! nothing passes because it could not be asked.

use std::io::Write;
use std::net::SocketAddr;

use evenkeel::{Running, Why};

use crate::support::backend::Backend;
use crate::support::http::{Answer, Asked, Client, Recorder, config, ok, serve};
use crate::support::until;

/// A proxy that asks `auth` before it asks `app`; `upstream` and `more` are further lines of the asked upstream and of `forward-auth`.
fn guarded(app: &Recorder, auth: SocketAddr, upstream: &str, more: &str) -> (Running, SocketAddr) {
    let route = format!(
        "[upstream.auth]\nbackends = \"{auth}\"\n{upstream}\n[[http.web.route]]\npath = \"/in/*\"\nupstream = \"app\"\n\
         forward-auth = {{ upstream = \"auth\", path = \"/verify?x=1\", copy-headers = [\"X-Auth-User\", \"X-Auth-Groups\"]{more} }}\n"
    );
    serve(&config(&[app.address()], "", &route))
}

/// Says yes to whoever has the cookie `yes`, and no to all others.
fn gatekeeper() -> Recorder {
    Recorder::answering(|asked| {
        match asked.field("cookie") {
        Some("yes") => b"HTTP/1.1 204 No Content\r\nX-Auth-User: ann\r\nX-Auth-Groups: a\r\nX-Auth-Groups: b\r\n\
                         X-Other: 1\r\n\r\n"
            .to_vec(),
        _ => b"HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\
               Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nlogin"
            .to_vec(),
    }
    })
}

fn ask(client: &mut Client, head: &str) -> Answer {
    client.send(format!("{head}\r\n\r\n")).answer()
}

fn values(asked: &Asked, name: &str) -> Vec<String> {
    let these = asked.fields.iter().filter(|(known, _)| known == name);
    these.map(|(_, value)| value.clone()).collect()
}

#[test]
fn a_yes_lets_pass_and_brings_its_headers() {
    let (app, auth) = (Recorder::echoing(), gatekeeper());
    let (_running, door) = guarded(&app, auth.address(), "", "");
    let mut client = Client::connect(door);
    let head = "PUT /in/a?b=c HTTP/1.1\r\nHost: app.test\r\nCookie: yes\r\nAuthorization: Bearer t\r\nX-Secret: 1\r\nContent-Length: 4";
    client.send(format!("{head}\r\n\r\nbody"));
    assert_eq!(client.answer().text(), "PUT /in/a?b=c HTTP/1.1");
    let question = &auth.requests()[0];
    assert_eq!(question.line, "GET /verify?x=1 HTTP/1.1");
    for (name, value) in [
        ("host", &*auth.address().to_string()),
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-uri", "/in/a?b=c"),
        ("x-forwarded-host", "app.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("authorization", "Bearer t"),
    ] {
        assert_eq!(question.field(name), Some(value), "{name}");
    }
    assert_eq!((question.field("x-secret"), question.field("content-length")), (None, None));
    let asked = &app.requests()[0];
    assert_eq!(
        (asked.body.as_slice(), asked.field("authorization")),
        (&b"body"[..], Some("Bearer t"))
    );
    assert_eq!(values(asked, "x-auth-user"), ["ann"]);
    assert_eq!(values(asked, "x-auth-groups"), ["a", "b"]);
    assert_eq!(asked.field("x-other"), None);
    assert_eq!(asked.field("x-request-id"), question.field("x-request-id"));
    // Both connections were kept, and other routes ask nobody.
    ask(&mut client, "GET /in/ HTTP/1.1\r\nHost: a\r\nCookie: yes");
    client.get("/out");
    assert_eq!((auth.backend.accepted(), auth.requests().len()), (1, 2));
}

#[test]
fn a_no_reaches_the_client_as_it_was_said() {
    let (app, auth) = (Recorder::echoing(), gatekeeper());
    let (running, door) = guarded(&app, auth.address(), "", "");
    let mut client = Client::connect(door);
    for _ in 0..2 {
        let answer = ask(&mut client, "GET /in/ HTTP/1.1\r\nHost: a");
        assert_eq!((answer.status, answer.text().as_str()), (302, "login"));
        assert_eq!(answer.field("location"), Some("https://login.test/"));
        let cookies = answer.fields.iter().filter(|(name, _)| name == "set-cookie").count();
        assert_eq!((cookies, answer.field("x-hop")), (2, None));
    }
    client.send("HEAD /in/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_answer(true).unwrap();
    assert_eq!((head.status, head.field("content-length")), (302, Some("5")));
    assert_eq!(client.get("/out").status, 200);
    assert_eq!(app.requests().len(), 1);
    until("they are counted", || running.counts().requests[3] == 3);
}

#[test]
fn a_client_cannot_forge_what_the_answer_brings_nor_take_it_away() {
    let app = Recorder::echoing();
    let auth = Recorder::answering(|asked| match asked.field("cookie") {
        Some("named") => {
            b"HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ => ok(b"anonymous"),
    });
    let (_running, door) = guarded(&app, auth.address(), "", "");
    let mut client = Client::connect(door);
    let forged =
        "X-Auth-User: root\r\nx-auth-user: root\r\nX_Auth_User: root\r\nX-Auth_Groups: wheel";
    ask(&mut client, &format!("GET /in/ HTTP/1.1\r\nHost: a\r\n{forged}"));
    let named = "Cookie: named\r\nConnection: X-Auth-User, x-auth-groups";
    ask(&mut client, &format!("GET /in/ HTTP/1.1\r\nHost: a\r\n{named}\r\n{forged}"));
    let asked = app.requests();
    assert!(!format!("{asked:?}").contains("root") && !format!("{asked:?}").contains("wheel"));
    assert_eq!(asked[0].field("x-auth-user"), None);
    assert_eq!(values(&asked[1], "x-auth-user"), ["ann"]);
    assert!(!format!("{:?}", auth.requests()).contains("root"));
    let twice = "Authorization: Bearer a\r\nAuthorization: Bearer b";
    let refused = ask(&mut client, &format!("GET /in/ HTTP/1.1\r\nHost: a\r\n{twice}"));
    assert_eq!((refused.status, auth.requests().len()), (400, 2));
}

#[test]
fn nothing_passes_when_nobody_can_be_asked() {
    let app = Recorder::echoing();
    let refused = |auth: SocketAddr, upstream: &str, more: &str| -> (u16, String) {
        let (_running, door) = guarded(&app, auth, upstream, more);
        let answer = ask(&mut Client::connect(door), "GET /in/ HTTP/1.1\r\nHost: a");
        (answer.status, answer.field("x-evenkeel-cause").unwrap_or_default().to_owned())
    };
    let quiet = "response-timeout = \"300ms\"";
    let gone = Backend::echo().stop();
    assert_eq!(refused(gone, "", ""), (503, "connect-refused".into()));
    let silent =
        Backend::serving(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop));
    assert_eq!(refused(silent.address, quiet, ""), (504, "response-timeout".into()));
    let closing = Backend::serving(|_| Ok(()));
    assert_eq!(refused(closing.address, "", "").0, 502);
    for (answer, cause) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"[..],
            "bad-response",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", "bad-response"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
            "bad-response",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "bad-response",
        ),
        (b"nonsense", "response-timeout"),
    ] {
        let auth = Recorder::answering(move |_| answer.to_vec());
        let found = refused(auth.address(), quiet, ", answer-max = \"10\"");
        assert!(found.0 >= 500, "{found:?}");
        if cause == "bad-response" {
            assert_eq!(found, (502, cause.into()), "{}", answer.escape_ascii());
        }
    }
    // One that breaks off within its yes has not said it.
    let half = Backend::serving(|mut stream| {
        let mut head = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut head)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\nContent-Length: 10\r\n\r\nhalf")
    });
    assert_eq!(refused(half.address, "", ""), (502, "backend-gone".into()));
    assert!(app.requests().is_empty());
}

#[test]
fn a_kept_connection_that_its_backend_has_ended_costs_no_answer() {
    let app = Recorder::echoing();
    let auth = Backend::serving(|mut stream| {
        let mut head = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut head)?;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    });
    let (running, door) = guarded(&app, auth.address, "", "");
    let mut client = Client::connect(door);
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "GET /in/ HTTP/1.1\r\nHost: a").status, 403);
    }
    assert_eq!(running.counts().ended_by(Why::BackendGone), 0);
}
