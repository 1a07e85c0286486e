//! The admin API over TCP: nobody gets in without the token, no page of another site through a browser, nobody by a name that is not
//! ours; and whoever does change something is named in the log.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::admin::{socket, status, told};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::http::{Answer, Client};
use crate::support::program::{Program, once};
use crate::support::tls::Certificates;
use crate::support::{config, until};

/// What the tests show.
pub(crate) const TOKEN: &str = "a-token-for-tests-0123456789";

/// A program with this token in a file, and more of `[admin]`.
pub(crate) fn with_token(rest: &str, admin: &str) -> (Program, SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    write_token(&file, TOKEN);
    let program = Program::run(&format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\ntoken-file = \"{}\"\n{admin}\n{rest}",
        file.display()
    ));
    let door = door(&program);
    (program, door, folder)
}

fn write_token(file: &Path, token: &str) {
    std::fs::write(file, format!("{token}\n")).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Where it is, as the log says.
fn door(program: &Program) -> SocketAddr {
    program.until_said("dashboard and API at http");
    let said = program.diagnostics();
    let after = said.split("dashboard and API at ").nth(1).unwrap();
    after.split('/').nth(2).unwrap().parse().unwrap()
}

/// A request with these lines in its head.
fn ask(door: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    Client::connect(door).send(head).answer()
}

fn shown(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn nobody_gets_in_without_the_token_and_whoever_has_it_is_named_in_the_log() {
    let backend = Backend::echo();
    let (program, door, _folder) = with_token(&config(&[backend.address], "", ""), "");
    let host = format!("Host: {door}");
    let order = format!("{{\"upstream\":\"app\",\"backend\":\"{}\"}}", backend.address);
    let drain = |headers: &[&str]| ask(door, "POST /v1/drain", headers, &order);
    let almost = [&TOKEN[1..], &format!("{TOKEN}x"), "", "a-token-for-tests-0123456780"];
    let began = Instant::now();
    for wrong in almost {
        let answer = drain(&[&host, &shown(wrong)]);
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.field("www-authenticate").is_some());
    }
    // Guessing takes its time.
    assert!(began.elapsed() > Duration::from_millis(750), "{:?}", began.elapsed());
    assert_eq!(drain(&[&host]).status, 401);
    assert_eq!(drain(&[&host, &format!("Authorization: Basic {TOKEN}")]).status, 401);
    assert_eq!(drain(&[&host, &shown(TOKEN), &shown(TOKEN)]).status, 401);
    for path in ["/v1/state", "/v1/events", "/metrics", "/v1/connections", "/none"] {
        assert_eq!(ask(door, &format!("GET {path}"), &[&host], "").status, 401, "{path}");
    }
    assert_eq!(status(&program)["backends"][0]["state"], "healthy");
    assert_eq!(drain(&[&host, &shown(TOKEN)]).status, 200);
    assert_eq!(status(&program)["backends"][0]["state"], "drained");
    let what = format!("admin: drain app/{}", backend.address);
    program.until_said(&what);
    let said = program.diagnostics();
    let line = said.lines().find(|line| line.contains(&what)).unwrap();
    assert!(line.contains("address=127.0.0.1:") && line.contains("token="), "{line}");
    assert!(said.contains("a wrong token was shown"));
    assert!(!said.contains(TOKEN) && !said.contains(&TOKEN[1..]), "{said}");
    assert_nobody_serves(&program);
}

/// The traffic is served by what was ordered.
fn assert_nobody_serves(program: &Program) {
    use std::io::Read;
    let mut client = connect(program.address("public"));
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn a_new_token_counts_at_once_and_half_a_file_does_not() {
    let backend = Backend::echo();
    let (program, door, folder) = with_token(&config(&[backend.address], "", ""), "");
    let host = format!("Host: {door}");
    let get = |token: &str| ask(door, "GET /v1/status", &[&host, &shown(token)], "").status;
    assert_eq!(get(TOKEN), 200);
    std::fs::write(folder.path().join("token"), "half").unwrap();
    assert_eq!((get("half"), get(TOKEN)), (401, 200));
    write_token(&folder.path().join("token"), "another-token-9876543210");
    assert_eq!((get(TOKEN), get("another-token-9876543210")), (401, 200));
    assert_echo(connect(program.address("public")), b"hello");
}

#[test]
fn a_name_that_is_not_ours_is_refused_before_anything_else() {
    let backend = Backend::echo();
    let hosts = "hosts = [\"lb.test\"]";
    let (_program, door, _folder) = with_token(&config(&[backend.address], "", ""), hosts);
    let get = |hosts: &[&str]| {
        let hosts: Vec<_> = hosts.iter().map(|host| format!("Host: {host}")).collect();
        let token = shown(TOKEN);
        let headers: Vec<_> = hosts.iter().map(String::as_str).chain([&*token]).collect();
        ask(door, "GET /v1/status", &headers, "").status
    };
    assert_eq!([get(&["localhost"]), get(&["127.0.0.1"]), get(&["lb.test:80"])], [200; 3]);
    assert_eq!([get(&["evil.test"]), get(&["lb.test.evil.test"]), get(&[])], [421; 3]);
    assert_eq!(get(&["localhost", "localhost"]), 421);
    // Neither the page, which needs no token.
    assert_eq!(ask(door, "GET /", &["Host: evil.test"], "").status, 421);
    let absolute = ask(door, "GET http://evil.test/", &["Host: localhost"], "");
    assert_eq!(absolute.status, 421);
}

#[test]
fn a_page_of_another_site_cannot_order_anything_nor_read() {
    let backend = Backend::echo();
    let (program, door, _folder) = with_token(&config(&[backend.address], "", ""), "");
    let (host, token) = (format!("Host: {door}"), shown(TOKEN));
    let mark = "X-Evenkeel: dashboard";
    let order = "{\"upstream\":\"app\"}";
    let down = |more: &[&str]| {
        ask(door, "POST /v1/down", &[&[&*host, &*token], more].concat(), order).status
    };
    let ours = format!("Origin: http://{door}");
    for foreign in [
        &["Origin: http://evil.test", mark][..],
        &["Origin: null", mark],
        &["Origin: http://localhost:1", mark],
        &["Sec-Fetch-Site: cross-site", mark],
        &["Sec-Fetch-Site: same-site", mark],
        // It is ours, but nobody has said that it is meant.
        &[&ours],
        &["Sec-Fetch-Site: same-origin"],
    ] {
        assert_eq!(down(foreign), 403, "{foreign:?}");
    }
    let read = ask(door, "GET /v1/state", &[&host, &token, "Sec-Fetch-Site: cross-site"], "");
    assert_eq!(read.status, 403);
    assert_eq!(status(&program)["backends"][0]["state"], "healthy");
    assert_eq!(down(&[&ours, "Sec-Fetch-Site: same-origin", mark]), 200);
    assert_eq!(down(&[]), 200);
    // The same on the socket, should a browser ever be led there.
    let raw = crate::support::admin::raw;
    let cross = "POST /v1/ready HTTP/1.1\r\nHost: a\r\nOrigin: http://evil.test\r\nContent-Length: 18\r\n\r\n{\"upstream\":\"app\"}";
    assert!(raw(&socket(&program), cross.as_bytes()).starts_with("HTTP/1.1 403"));
}

#[test]
fn the_page_is_served_without_a_token_and_may_load_nothing_from_elsewhere() {
    let backend = Backend::echo();
    let (program, door, _folder) = with_token(&config(&[backend.address], "", ""), "");
    let get = |path: &str| ask(door, &format!("GET {path}"), &[&format!("Host: {door}")], "");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let file = get(path);
        assert_eq!((file.status, file.field("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(file.field("x-content-type-options"), Some("nosniff"));
        let policy = file.field("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'")
        );
        assert!(!policy.contains("unsafe"));
    }
    assert_eq!(get("/dashboard").field("location"), Some("/dashboard/"));
    assert_eq!(get("/dashboard/mod.rs").status, 401);
    let on_socket =
        crate::support::admin::raw(&socket(&program), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(on_socket.contains("<!doctype html>"), "{on_socket}");
}

#[test]
fn a_config_that_would_let_strangers_in_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    write_token(&folder.path().join("token"), TOKEN);
    std::fs::write(folder.path().join("short"), "secret").unwrap();
    let check = |admin: &str| {
        let text = format!(
            "[admin]\n{admin}\n[upstream.a]\nbackends = \"127.0.0.1:1\"\n[tcp.t]\nlisten = \"127.0.0.1:1\"\nupstream = \"a\"\n"
        );
        std::fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
        let output = once(&["check"], folder.path());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let refused = [
        ("listen = \"127.0.0.1:9900\"", "must show a token"),
        (
            "listen = \"0.0.0.0:9900\"\ntoken-file = \"token\"",
            "other machines can reach 0.0.0.0:9900",
        ),
        ("listen = \"[2001:db8::1]:9900\"\ntoken-file = \"token\"", "`public = true`"),
        ("listen = \"127.0.0.1:9900\"\ntoken-file = \"short\"", "16 to 1024 characters"),
        ("listen = \"127.0.0.1:9900\"\ntoken-file = \"none\"", "No such file"),
        (
            "listen = \"127.0.0.1:9900\"\ntoken-file = \"token\"\ntls = { certificate = \"no.pem\", key = \"no.key\" }",
            "no.pem",
        ),
        ("listen = [\"unix:a\", \"unix:b\"]", "one Unix socket"),
        ("listen = \"localhost:9900\"", "write \"127.0.0.1:9900\""),
        ("listen = \"127.0.0.1:1\"\ntoken-file = \"token\"", "a listener has this address"),
    ];
    for (admin, what) in refused {
        let (code, said) = check(admin);
        assert_eq!(code, Some(1), "{admin}");
        assert!(said.contains(what) && !said.contains("secret"), "{admin}: {said}");
    }
    let public = "listen = [\"0.0.0.0:9900\", \"off\"]\ntoken-file = \"token\"\npublic = true";
    assert_eq!(check(public), (Some(0), String::new()));
    std::fs::set_permissions(folder.path().join("token"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let (code, said) = check(public);
    assert!(code == Some(0) && said.contains("others than its user may read"), "{said}");
}

#[test]
fn those_who_hang_on_over_tcp_leave_the_socket_to_others() {
    let backend = Backend::echo();
    let (program, door, _folder) = with_token(&config(&[backend.address], "", ""), "");
    let silent: Vec<_> = (0..40).map(|_| connect(door)).collect();
    let began = Instant::now();
    for _ in 0..2 {
        assert!(told(&program, &["status"]).contains(&format!("process {}", program.pid())));
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(silent);
    let host = format!("Host: {door}");
    until("its places are free again", || {
        ask(door, "GET /v1/status", &[&host, &shown(TOKEN)], "").status == 200
    });
}

#[test]
fn bodies_that_are_no_orders_are_refused_over_tcp_too() {
    let backend = Backend::echo();
    let (_program, door, _folder) = with_token(&config(&[backend.address], "", ""), "");
    let head = format!(
        "POST /v1/diff HTTP/1.1\r\nHost: {door}\r\n{}\r\nContent-Length: 99999999\r\n\r\n",
        shown(TOKEN)
    );
    assert_eq!(Client::connect(door).send(head).answer().status, 413);
}

#[test]
fn with_tls_the_token_goes_through_a_handshake_and_never_in_clear() {
    let backend = Backend::echo();
    let certificates = Certificates::new();
    let tls = format!("tls = {{ {} }}\nhosts = [\"a.test\"]", certificates.pair());
    let (program, door, _folder) = with_token(&config(&[backend.address], "", ""), &tls);
    assert!(program.diagnostics().contains(&format!("API at https://{door}/")));
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: a.test\r\n{}\r\n\r\n", shown(TOKEN));
    let status = certificates.client(door).send(&head).answer();
    assert_eq!(status.status, 200);
    assert!(status.text().contains("\"listeners\""));
    let without = "GET /v1/status HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(certificates.client(door).send(without).answer().status, 401);
    // Whoever comes in clear is not answered as HTTP.
    assert!(Client::connect(door).send(&head).try_answer(false).is_err());
    // One who begins no handshake leaves their place to others in time.
    let silent: Vec<_> = (0..20).map(|_| connect(door)).collect();
    assert_eq!(certificates.client(door).send(&head).answer().status, 200);
    drop(silent);
}
