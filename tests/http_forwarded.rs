//! Who the client is, and who may say so: only trusted proxies are believed, and each only for whom it was connected from.

use crate::support::http::{Answer, Asked, Client, Recorder, config, serve};
use crate::support::program::Program;

/// What a backend gets of a request with these fields, from a client on loopback.
fn asked(listener: &str, fields: &str) -> Asked {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", listener));
    let mut client = Client::connect(door);
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    assert_eq!(client.answer().status, 200);
    let mut asked = recorder.requests().remove(0);
    // Chosen by the kernel, and so different each time.
    let port = door.port().to_string();
    for (name, value) in &mut asked.fields {
        if name == "x-forwarded-port" && *value == port {
            *value = "ours".to_owned();
        }
    }
    asked
}

const TRUSTING: &str = "trusted-proxies = \"127.0.0.0/8\"";

const EVERYTHING: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\n\
    X-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nX-Real-IP: 6.6.6.6\r\n\
    X-Forwarded-User: root\r\nx-forwarded-prefix: /evil\r\n";

#[test]
fn what_a_stranger_says_of_forwarding_is_dropped_as_a_whole() {
    for listener in [
        "",
        "x-forwarded = \"replace\"\nforwarded = \"append\"",
        "trusted-proxies = \"10.0.0.0/8\"",
    ] {
        let asked = asked(listener, EVERYTHING);
        assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(asked.field("x-forwarded-proto"), Some("http"));
        assert_eq!(asked.field("x-forwarded-host"), Some("a.test"));
        assert_eq!(asked.field("x-forwarded-port"), Some("ours"));
        assert_eq!(asked.field("x-request-id").map(str::len), Some(32));
        for name in ["x-real-ip", "x-forwarded-user", "x-forwarded-prefix"] {
            assert_eq!(asked.field(name), None, "{name}");
        }
        assert!(!format!("{asked:?}").contains("6.6.6.6"));
    }
}

#[test]
fn look_alikes_with_underscores_do_not_pass_for_ours() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    for name in ["X_Forwarded_For", "X-Forwarded_Proto", "X_Real_IP"] {
        let mut client = Client::connect(door);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: 6.6.6.6\r\n\r\n"));
        assert_eq!(client.answer().status, 400, "{name}");
    }
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_User: root\r\n\r\n").answer();
    assert_eq!(recorder.requests()[0].field("x_forwarded_user"), None);
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to_its_list() {
    let said = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: b.test\r\nX-Forwarded-Port: 443\r\nX-Request-Id: abc-1\r\nX-Real-IP: 192.0.2.7\r\n";
    let asked = asked(TRUSTING, said);
    let lists = asked.fields.iter().filter(|(name, _)| name == "x-forwarded-for").count();
    assert_eq!(lists, 1);
    assert_eq!(asked.field("x-forwarded-for"), Some("6.6.6.6, 192.0.2.7, 127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("https"));
    assert_eq!(asked.field("x-forwarded-host"), Some("b.test"));
    assert_eq!(asked.field("x-forwarded-port"), Some("443"));
    assert_eq!(asked.field("x-request-id"), Some("abc-1"));
    assert_eq!(asked.field("x-real-ip"), Some("192.0.2.7"));
}

#[test]
fn forwarding_headers_are_replaced_or_dropped_as_configured() {
    let replaced = asked(
        &format!("{TRUSTING}\nx-forwarded = \"replace\"\nforwarded = \"replace\""),
        EVERYTHING,
    );
    assert_eq!(replaced.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(replaced.field("x-forwarded-proto"), Some("http"));
    assert_eq!(replaced.field("forwarded"), Some("for=127.0.0.1;proto=http;host=\"a.test\""));
    assert_eq!(replaced.field("x-real-ip"), None);
    let dropped =
        asked(&format!("{TRUSTING}\nx-forwarded = \"drop\"\nforwarded = \"drop\""), EVERYTHING);
    let forwarding =
        |(name, _): &&(String, String)| name.contains("forward") || name.contains("real");
    assert_eq!(dropped.fields.iter().find(forwarding), None);
    let appended =
        asked(&format!("{TRUSTING}\nforwarded = \"append\""), "Forwarded: for=192.0.2.7\r\n");
    let expected = "for=192.0.2.7, for=127.0.0.1;proto=http;host=\"a.test\"";
    assert_eq!(appended.field("forwarded"), Some(expected));
    let route =
        "[[http.web.route]]\nupstream = \"app\"\nx-forwarded = \"drop\"\nforwarded = \"replace\"";
    let by_route = asked(route, "");
    assert_eq!(by_route.field("x-forwarded-for"), None);
    assert!(by_route.field("forwarded").is_some());
}

#[test]
fn a_route_may_change_what_is_said_of_forwarding() {
    let route = "[[http.web.route]]\nupstream = \"app\"\nrequest-headers = { remove = \"X-Forwarded-For\", set = { X-Forwarded-Proto = \"https\", X-Real-IP = \"{client.ip}\" } }";
    let asked = asked(route, "");
    assert_eq!(asked.field("x-forwarded-for"), None);
    let protos: Vec<_> =
        asked.fields.iter().filter(|(name, _)| name == "x-forwarded-proto").collect();
    assert_eq!((protos.len(), protos[0].1.as_str()), (1, "https"));
    assert_eq!(asked.field("x-real-ip"), Some("127.0.0.1"));
}

/// Asks for `/` with this list of addresses, over a proxy that lets one network in on a route of its own.
fn by_client(trusted: &str, list: &str) -> Answer {
    let recorder = Recorder::echoing();
    let routes = format!(
        "{trusted}\n[[http.web.route]]\nclient = \"192.0.2.0/24\"\nreply = {{ status = 200, body = \"inside\" }}\n\
         [[http.web.route]]\nheader = {{ x-forwarded-user = \"*\" }}\nreply = {{ status = 200, body = \"forged\" }}\n"
    );
    let (_running, door) = serve(&config(&[recorder.address()], "", &routes));
    let mut client = Client::connect(door);
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {list}\r\nX-Forwarded-User: root\r\n\r\n"
    ));
    client.answer()
}

#[test]
fn conditions_see_the_client_behind_trusted_proxies_and_no_forged_one() {
    let trusted = "trusted-proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    assert_eq!(by_client(trusted, "192.0.2.7").text(), "inside");
    assert_eq!(by_client(trusted, "6.6.6.6, 192.0.2.7, 10.0.0.9").text(), "inside");
    // The part before the last stranger is what the stranger says.
    assert_eq!(by_client(trusted, "192.0.2.7, 6.6.6.6").text(), "forged");
    assert_eq!(by_client(trusted, "192.0.2.7, 6.6.6.6, 10.0.0.9").text(), "forged");
    assert_eq!(by_client(trusted, "192.0.2.7, unknown, 10.0.0.9").text(), "forged");
    // Without trust neither the address nor any other such header counts, not even for a condition.
    assert_eq!(by_client("", "192.0.2.7").text(), "GET / HTTP/1.1");
}

#[test]
fn the_log_has_the_client_behind_trusted_proxies() {
    let recorder = Recorder::echoing();
    let text = config(&[recorder.address()], "", TRUSTING);
    let program = Program::run(&format!("{text}[log]\nformat = \"json\"\n"));
    let mut client = Client::connect(program.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 2001:db8::7\r\nX-Request-Id: abc\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    // The next request on the connection may come from somebody else.
    client.get("/");
    let lines = program.until_lines(2);
    let line = |n: usize| serde_json::from_str::<serde_json::Value>(&lines[n]).unwrap();
    assert_eq!(line(0)["client"], "2001:db8::7");
    assert!(line(0).to_string().contains("\"abc\""), "{}", lines[0]);
    assert!(line(1)["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", lines[1]);
}
