//! What a route changes in a request reaches the backend as configured and in one reading, and nothing a client sends
//! can bend it.

use crate::support::backend::Backend;
use crate::support::http::{Asked, Client, Recorder, config, ok, serve};
use crate::support::program::Program;

/// A proxy with one route, and what its backend gets for each of these requests.
fn asked(route: &str, requests: &[&str]) -> Vec<Asked> {
    let recorder = Recorder::echoing();
    let route = format!("[[http.web.route]]\nupstream = \"app\"\n{route}\n");
    let (_running, door) = serve(&config(&[recorder.address()], "", &route));
    let mut client = Client::connect(door);
    for request in requests {
        let answer = client.send(request).answer();
        assert_eq!(answer.status, 200, "{request}");
    }
    recorder.requests()
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")
}

fn lines(route: &str, targets: &[&str]) -> Vec<String> {
    let requests: Vec<_> = targets.iter().map(|target| get(target)).collect();
    let requests: Vec<_> = requests.iter().map(String::as_str).collect();
    let path = |asked: Asked| asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
    asked(route, &requests).into_iter().map(path).collect()
}

#[test]
fn a_prefix_is_stripped_where_it_is_whole_segments() {
    let route = "path = \"/api/*\"\nstrip-prefix = \"/api\"";
    let targets = ["/api/users?a=/api", "/api", "/api?x", "/api/", "/%61pi/a", "/api/./a%20b"];
    assert_eq!(lines(route, &targets), ["/users?a=/api", "/", "/?x", "/", "/a", "/a%20b"]);
    assert_eq!(lines("strip-prefix = \"/api\"", &["/apis/x", "/x/api"]), ["/apis/x", "/x/api"]);
}

#[test]
fn what_is_left_of_a_path_never_climbs_and_never_names_a_host() {
    let route = "path = \"/api/*\"\nstrip-prefix = \"/api\"";
    assert_eq!(lines(route, &["/api//evil.test/x", "/api/%2e%2E/api/x"]), ["/evil.test/x", "/x"]);
    let recorder = Recorder::echoing();
    let route = format!("[[http.web.route]]\nupstream = \"app\"\n{route}\n");
    let (_running, door) = serve(&config(&[recorder.address()], "", &route));
    for target in ["/api/../..", "/api/%2e%2e/%2e%2e/x", "/api/%2Fx", "/api/%5cx", "/api/\\x"] {
        assert_eq!(Client::connect(door).get(target).status, 400, "{target}");
    }
    assert!(recorder.requests().is_empty());
}

#[test]
fn several_slashes_are_one_to_routes_and_backends_where_that_is_asked_for() {
    for (key, reaches) in
        [("", &["//admin/x", "/a//b?c=//d"][..]), ("merge-slashes = true", &["/a/b?c=//d"])]
    {
        let recorder = Recorder::echoing();
        let routes = "[[http.web.route]]\npath = \"/admin/*\"\nreply = 403\n\
                      [[http.web.route]]\nupstream = \"app\"\n";
        let (_running, door) =
            serve(&config(&[recorder.address()], "", &format!("{key}\n{routes}")));
        let mut client = Client::connect(door);
        let refused = if key.is_empty() { 200 } else { 403 };
        assert_eq!(client.get("//admin/x").status, refused, "{key}");
        assert_eq!(client.get("/a//b?c=//d").status, 200, "{key}");
        let path = |asked: &Asked| asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
        assert_eq!(recorder.requests().iter().map(path).collect::<Vec<_>>(), reaches, "{key}");
    }
}

#[test]
fn a_path_is_replaced_with_what_stands_under_the_star() {
    let route = |to: &str| format!("path = \"/old/*\"\nreplace-path = \"{to}\"");
    let targets = ["/old/a/b?c=d", "/old"];
    assert_eq!(lines(&route("/new{rest}"), &targets), ["/new/a/b?c=d", "/new"]);
    assert_eq!(lines(&route("/new/{rest}"), &targets), ["/new/a/b?c=d", "/new/"]);
    assert_eq!(lines(&route("/v2{path}"), &targets), ["/v2/old/a/b?c=d", "/v2/old"]);
    assert_eq!(lines(&route("/one"), &targets), ["/one?c=d", "/one"]);
}

#[test]
fn the_host_is_the_one_that_is_written_or_the_backends_own() {
    let fixed = asked("host-header = \"inside.test:81\"", &[&get("/")]);
    assert_eq!(fixed[0].field("host"), Some("inside.test:81"));
    // It still learns what the client asked for.
    assert_eq!(fixed[0].field("x-forwarded-host"), Some("app.test"));
    let recorder = Recorder::echoing();
    let address = recorder.address().to_string();
    let text = config(
        &[recorder.address()],
        "",
        "[[http.web.route]]\nupstream = \"app\"\nhost-header = \"{backend}\"",
    );
    let (_running, door) = serve(&text);
    Client::connect(door).get("/");
    assert_eq!(recorder.requests()[0].field("host"), Some(&*address));
}

#[test]
fn the_log_keeps_the_path_that_the_client_asked_for() {
    let recorder = Recorder::echoing();
    let route = "[[http.web.route]]\npath = \"/api/*\"\nupstream = \"app\"\nstrip-prefix = \"/api\"\n\
                 response-headers = { set = { X-Path = \"{path}\" } }";
    let program = Program::run(&format!(
        "{}[log]\nformat = \"json\"\n",
        config(&[recorder.address()], "", route)
    ));
    let answer = Client::connect(program.address("web")).get("/api/a?b");
    assert_eq!(
        (answer.text().as_str(), answer.field("x-path")),
        ("GET /a?b HTTP/1.1", Some("/api/a"))
    );
    let line: serde_json::Value = serde_json::from_str(&program.until_lines(1)[0]).unwrap();
    assert!(line.to_string().contains("/api/a?b"), "{line}");
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let route = "request-headers = { remove = [\"X-Gone\", \"X-Both\"], set = { X-Set = \"1\" }, add = { X-Both = [\"a\", \"b\"], X-Set = \"2\", X-Kept = \"new\" } }\n\
                 response-headers = { add = { Via = \"us\" } }";
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nX-Both: 1\r\nX-Set: old\r\nX-Kept: old\r\n\r\n";
    let asked = &asked(route, &[request])[0];
    let all = |name: &str| -> Vec<_> {
        let these = asked.fields.iter().filter(|(known, _)| known == name);
        these.map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(all("x-gone"), [""; 0]);
    assert_eq!(
        (all("x-both"), all("x-set")),
        (vec!["a".into(), "b".into()], vec!["1".into(), "2".into()])
    );
    assert_eq!(all("x-kept"), ["old", "new"]);
}

#[test]
fn variables_are_filled_in_once_and_with_what_the_client_asked() {
    let route = "path = \"/a/*\"\nstrip-prefix = \"/a\"\nrequest-headers = { set = { X-All = \
         \"{client.ip}|{host}|{path}|{query}|{uri}|{method}|{scheme}|{listener}|{header.X-In}|{header.host}|{cookie.c}|{header.none}|{{x}\", \
         X-Port = \"{client.port}\", X-Id = \"{request.id}\" } }";
    let request = "GET /a/b?c={host} HTTP/1.1\r\nHost: App.test:80\r\nX-In: one\r\nX-In: {path}\r\nCookie: b=1; c=2\r\n\r\n";
    let asked = &asked(route, &[request])[0];
    let expected = "127.0.0.1|App.test|/a/b|c={host}|/a/b?c={host}|GET|http|web|one, {path}|App.test:80|2||{x}";
    assert_eq!(asked.field("x-all"), Some(expected));
    assert!(asked.field("x-port").is_some_and(|port| port.parse::<u16>().is_ok()));
    assert_eq!(asked.field("x-id"), asked.field("x-request-id"));
}

#[test]
fn no_value_of_a_client_ends_a_header_or_begins_another() {
    let route = "request-headers = { set = { X-Q = \"{query}\", X-C = \"{cookie.c}\", X-H = \"{header.X-In}\" } }\n\
                 response-headers = { set = { X-Back = \"{query}{cookie.c}\" } }";
    let recorder = Recorder::echoing();
    let route = format!("[[http.web.route]]\nupstream = \"app\"\n{route}\n");
    let (_running, door) = serve(&config(&[recorder.address()], "", &route));
    let mut client = Client::connect(door);
    client.send(
        "GET /?%0d%0aX-Admin:1%00 HTTP/1.1\r\nHost: a\r\nCookie: c=a%0d%0aX-Admin: 1\r\nX-In: a\tb\u{e9}\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.field("x-back"), Some("%0d%0aX-Admin:1%00a%0d%0aX-Admin: 1"));
    let asked = &recorder.requests()[0];
    assert_eq!(asked.field("x-h"), Some("a\tb\u{e9}"));
    assert!(asked.field("x-admin").is_none() && answer.field("x-admin").is_none());
    // What could be more than text is refused before any route sees it.
    for byte in ["\r", "\n", "\0"] {
        let mut client = Client::connect(door);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: c=a{byte}X-Admin: 1\r\n\r\n"));
        let refused = client.answer();
        assert_eq!(refused.status, 400, "{byte:?}");
    }
    assert_eq!(recorder.requests().len(), 1);
}

#[test]
fn a_long_list_of_headers_to_strip_is_followed_to_its_end() {
    let recorder = Recorder::echoing();
    let limits = "head-max = \"1MiB\"\nheaders-max = 256";
    let (_running, door) = serve(&config(&[recorder.address()], "", limits));
    let names: Vec<_> = (0..120_000).map(|n| format!("x{n:x}")).collect();
    let fields: String = (0..250).map(|n| format!("Y{n}: 1\r\n")).collect();
    let mut client = Client::connect(door);
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\nx7F: gone\r\n{fields}\r\n",
        names.join(",")
    ));
    assert_eq!(client.answer().status, 200);
    let asked = &recorder.requests()[0];
    assert_eq!((asked.field("x7f"), asked.field("y249")), (None, Some("1")));
}

#[test]
fn a_switch_of_protocols_goes_to_the_changed_path() {
    use std::io::{Read, Write};
    let backend = Backend::serving(|mut stream| {
        let mut head = [0; 1000];
        let count = stream.read(&mut head)?;
        let is_changed = head[..count].starts_with(b"GET /chat HTTP/1.1\r\nHost: inside\r\n");
        let status = if is_changed { "101 Switching Protocols" } else { "404 Not Found" };
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
        stream.write_all(format!("HTTP/1.1 {status}\r\n{upgrade}\r\n\r\n").as_bytes())?;
        crate::support::backend::echo(stream)
    });
    let route = "[[http.web.route]]\npath = \"/ws/*\"\nupstream = \"app\"\nstrip-prefix = \"/ws\"\nhost-header = \"inside\"";
    let (_running, door) = serve(&config(&[backend.address], "", route));
    let mut client = Client::connect(door);
    client.send(
        "GET /ws/chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.answer().status, 101);
}

#[test]
fn what_a_route_sets_or_removes_goes_in_every_spelling() {
    let route = "request-headers = { set = { X-User = \"ann\" }, remove = \"X-Role\" }";
    let forged = "x-user: root\r\nX_User: root\r\nX_USER: root\r\nx_role: root\r\nX-Role: root\r\nX-Users: 1";
    let asked = &asked(route, &[&format!("GET / HTTP/1.1\r\nHost: a\r\n{forged}\r\n\r\n")])[0];
    assert_eq!((asked.field("x-user"), asked.field("x-users")), (Some("ann"), Some("1")));
    assert!(!format!("{asked:?}").contains("root"), "{asked:?}");
}

#[test]
fn what_we_answer_ourselves_gets_the_headers_of_its_route() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "x").unwrap();
    let files = format!("files = \"{}\"", folder.path().display());
    let reply = "reply = { status = 200, body = \"x\" }";
    for target in [&*files, "redirect = \"/x\"", reply] {
        let route = format!(
            "[[http.web.route]]\npath = \"/f/*\"\n{target}\nresponse-headers = {{ set = {{ Content-Type = \"text/x\" }}, \
             remove = \"Last-Modified\", add = {{ X-A = [\"{{method}}\", \"2\"] }} }}"
        );
        let recorder = Recorder::answering(|_| ok(b""));
        let (_running, door) = serve(&config(&[recorder.address()], "", &route));
        let answer = Client::connect(door).get("/f/a");
        let values = |name: &str| -> Vec<_> {
            let these = answer.fields.iter().filter(|(known, _)| known == name);
            these.map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(values("x-a"), ["GET", "2"], "{target}");
        assert_eq!(values("content-type"), ["text/x"], "{target}");
        assert_eq!(answer.field("last-modified"), None, "{target}");
    }
    let route = format!("[[http.web.route]]\n{reply}");
    let (_running, door) = serve(&config(&[Recorder::echoing().address()], "", &route));
    let answer = Client::connect(door).get("/");
    let types = answer.fields.iter().filter(|(name, _)| name == "content-type");
    assert_eq!(types.count(), 1);
}

#[test]
fn changes_and_limits_are_the_same_over_http2_on_either_side() {
    use crate::support::h2::{H2Backend, H2Client};
    let backend = H2Backend::echoing();
    let route = "[[http.web.route]]\npath = \"/api/*\"\nupstream = \"app\"\nstrip-prefix = \"/api\"\nhost-header = \"inside.test\"\n\
                 request-headers = { set = { X-From = \"{client.ip} {host}{uri}\" } }\nrate-limit = { requests = 2, per = \"1h\" }";
    let (_running, door) = serve(&config(&[backend.address], "h2 = true", route));
    let client = H2Client::connect(door);
    let statuses: Vec<_> = (0..3).map(|_| client.get("/api/a?b").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert!(client.get("/api/").field("retry-after").is_some());
    // The same client by the other version.
    assert_eq!(Client::connect(door).get("/api/a").status, 429);
    let asked = &backend.requests()[0];
    assert_eq!(asked.uri.to_string(), "http://inside.test/a?b");
    let field = |name: &str| asked.fields.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(field("x-from"), Some("127.0.0.1 app.test/api/a?b"));
    assert_eq!(field("x-forwarded-host"), Some("app.test"));
    assert_eq!(field("x-forwarded-port"), Some(&*door.port().to_string()));
}
