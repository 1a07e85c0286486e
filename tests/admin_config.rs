//! Backends added, changed and removed while everything runs: as a file would do it, all of an order or nothing, only where nobody else was
//! faster, and never lost in silence.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::admin::{begin, raw, refused, socket, tell, told, write};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, visit};
use crate::support::config;
use crate::support::http::Client;
use crate::support::program::Program;

/// What came of a request on the socket: the status, the ETag and the body.
fn ask(program: &Program, line: &str, mark: Option<&str>, body: &Value) -> (u16, String, Value) {
    let mark = mark.map_or(String::new(), |mark| format!("If-Match: {mark}\r\n"));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let answer = raw(
        &socket(program),
        format!("{line} HTTP/1.1\r\nHost: a\r\n{mark}Content-Length: {length}\r\n\r\n{body}")
            .as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, etag.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

fn mark(program: &Program) -> String {
    let (status, mark, _) = ask(program, "GET /v1/config", None, &Value::Null);
    assert_eq!(status, 200);
    mark
}

/// Who answers some visits.
fn answering(door: SocketAddr) -> String {
    let mut all: Vec<char> =
        (0..20).flat_map(|_| visit(door).chars().collect::<Vec<_>>()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().collect()
}

fn two_named() -> [Backend; 2] {
    [Backend::named("a"), Backend::named("b")]
}

#[test]
fn a_backend_comes_changes_and_goes_while_connections_go_on() {
    let [one, other] = two_named();
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    assert_eq!(answering(door), "a");
    let said = told(&program, &["add", "app", &other.address.to_string(), "weight=2"]);
    assert!(
        said.contains(&format!(
            "upstream.app.backends: +{{ address = \"{}\", weight = 2 }}",
            other.address
        )),
        "{said}"
    );
    assert_eq!(answering(door), "ab");
    told(&program, &["set", &format!("app/{}", one.address), "weight=0"]);
    assert_eq!(answering(door), "b");
    told(&program, &["remove", &format!("app/{}", one.address)]);
    assert_eq!(answering(door), "b");
    let path =
        format!("GET /v1/upstreams/app/backends/{}", other.address.to_string().replace(':', "%3A"));
    let (_, _, row) = ask(&program, &path, None, &Value::Null);
    assert_eq!(
        (&row["backends"][0]["weight"], &row["backends"][0]["backup"]),
        (&json!(2), &json!(false))
    );
    for (what, name) in [("add", &other), ("set", &one), ("remove", &one)] {
        program.until_said(&format!("admin: {what} app/{}", name.address));
    }
    refused(&program, &["add", "app", &other.address.to_string()], 6);
    refused(&program, &["remove", &format!("app/{}", one.address)], 6);
    // The last one of an upstream is not taken from it, as no file may do that.
    assert!(
        refused(&program, &["remove", &format!("app/{}", other.address)], 1).contains("backends")
    );
    assert_eq!(answering(door), "b");
}

#[test]
fn an_order_that_has_seen_another_config_or_none_is_refused() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let path = "/v1/upstreams/app/backends/127.0.0.1:9";
    let before = mark(&program);
    assert_eq!(ask(&program, &format!("PUT {path}"), None, &json!({})).0, 428);
    assert_eq!(ask(&program, &format!("PUT {path}"), Some("\"0000\""), &json!({})).0, 412);
    assert_eq!(ask(&program, &format!("PUT {path}"), Some("0000"), &json!({})).0, 400);
    assert_eq!(mark(&program), before);
    let (status, after, _) = ask(&program, &format!("PUT {path}"), Some(&before), &json!({}));
    assert_eq!(status, 200);
    assert_ne!(after, before);
    assert_eq!(mark(&program), after);
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(ask(&program, &format!("{method} {path}"), Some(&before), &json!({})).0, 412);
    }
    // A reload makes another config of it too.
    told(&program, &["reload"]);
    assert_eq!(ask(&program, &format!("DELETE {path}"), Some(&after), &Value::Null).0, 412);
    assert_eq!(mark(&program), before);
    assert_eq!(ask(&program, &format!("PUT {path}"), Some("*"), &json!({})).0, 200);
}

#[test]
fn of_two_that_order_at_once_one_is_refused_and_nothing_is_mixed() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let before = mark(&program);
    let outcomes: Vec<u16> = std::thread::scope(|scope| {
        let give = |port: u16| {
            let (program, before) = (&program, &before);
            scope.spawn(move || {
                let path = format!("PUT /v1/upstreams/app/backends/127.0.0.1:{port}");
                ask(program, &path, Some(before), &json!({})).0
            })
        };
        let all: Vec<_> = (1..=8).map(give).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|status| **status == 200).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|status| **status == 412).count(), 7, "{outcomes:?}");
    let (_, _, all) = ask(&program, "GET /v1/upstreams/app/backends", None, &Value::Null);
    assert_eq!(all["backends"].as_array().unwrap().len(), 2);
}

#[test]
fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let [one, other] = two_named();
    let program = Program::run(&config(&[one.address], "", ""));
    let (one, other) = (one.address.to_string(), other.address.to_string());
    let before = mark(&program);
    let add = json!({ "do": "add", "upstream": "app", "backend": other });
    let remove = json!({ "do": "remove", "upstream": "app", "backend": one });
    let batch = |changes: &[&Value]| {
        ask(&program, "POST /v1/batch", Some("*"), &json!({ "changes": changes }))
    };
    let wrong = [
        (json!({ "do": "patch", "upstream": "none", "backend": one }), 404),
        (json!({ "do": "patch", "upstream": "app", "backend": "127.0.0.1:9" }), 404),
        (json!({ "do": "patch", "upstream": "app", "backend": one, "set": { "wieght": 1 } }), 422),
        (json!({ "do": "patch", "upstream": "app", "backend": one, "set": { "weight": -1 } }), 422),
        (json!({ "do": "add", "upstream": "app", "backend": "nonsense" }), 422),
        (json!({ "do": "add", "upstream": "app", "backend": "${HOME}:1" }), 422),
        (json!({ "do": "burn", "upstream": "app", "backend": one }), 400),
        (json!({ "do": "add", "upstream": "app", "backend": other }), 409),
    ];
    for (step, expected) in &wrong {
        let (status, _, body) = batch(&[&add, step]);
        assert_eq!(status, *expected, "{step}: {body}");
        assert!(!body["error"].as_str().unwrap().is_empty());
        assert_eq!(mark(&program), before, "{step}");
    }
    assert_eq!(batch(&[]).0, 400);
    assert_eq!(answering(program.address("public")), "a");
    assert_eq!(batch(&[&add, &remove]).0, 200);
    assert_eq!(answering(program.address("public")), "b");
}

#[test]
fn a_reload_says_what_it_takes_back_and_what_was_written_down_stays() {
    let [one, other] = two_named();
    let program = Program::run(&config(&[one.address], "", ""));
    let file = program.folder().join("evenkeel.toml");
    let original = std::fs::read_to_string(&file).unwrap();
    let name = other.address.to_string();
    told(&program, &["add", "app", &name]);
    let lost = format!("app/{name}: added over the admin API, the file takes that back");
    for asks in [&["reload", "--dry-run"][..], &["diff", "evenkeel.toml"]] {
        assert!(told(&program, asks).contains(&lost), "{asks:?}");
    }
    assert_eq!(answering(program.address("public")), "ab");
    // Somebody writes it down, and a reload finds it in force already.
    let said = told(&program, &["config", "--write", "evenkeel.toml"]);
    assert!(said.contains(&format!("app/{name}: added over the admin API")), "{said}");
    let said = told(&program, &["reload"]);
    assert!(
        said.contains("the file has that too") && said.contains("nothing has changed"),
        "{said}"
    );
    assert_eq!(answering(program.address("public")), "ab");
    // Nothing is over the API any more.
    assert!(!told(&program, &["reload"]).contains("admin API"));
    told(&program, &["set", &format!("app/{name}"), "weight=7"]);
    write(&program, &original);
    let said = told(&program, &["reload"]);
    assert!(
        said.contains(&format!("app/{name}: changed over the admin API, the file takes that back")),
        "{said}"
    );
    program.until_said("changed over the admin API, the file takes that back");
    assert_eq!(answering(program.address("public")), "a");
}

#[test]
fn nothing_is_changed_while_a_config_waits_to_be_confirmed() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    told(&program, &["add", "app", "127.0.0.1:9"]);
    let before = mark(&program);
    told(&program, &["reload", "--confirm-within", "60s"]);
    let said = refused(&program, &["add", "app", "127.0.0.1:8"], 6);
    assert!(said.contains("waits to be confirmed"), "{said}");
    told(&program, &["confirm"]);
    told(&program, &["add", "app", "127.0.0.1:9"]);
    assert_eq!(mark(&program), before);
    // Where nobody confirms, what was changed comes back too.
    told(&program, &["reload", "--confirm-within", "1s"]);
    program.until_said("back to the config before");
    crate::support::until("it is in force again", || mark(&program) == before);
}

#[test]
fn the_config_is_shown_with_its_problems_and_without_secrets() {
    let backend = Backend::echo();
    let text = format!(
        "# Ours.\n[upstream.app]\nbackends = \"{}\"\n[upstream.unused]\nbackends = \"127.0.0.1:9\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\n\
         [[http.web.route]]\nupstream = \"app\"\nrequest-headers.set.Authorization = \"Bearer hunter2hunter2\"\n",
        backend.address
    );
    let program = Program::run(&text);
    let (_, _, shown) = ask(&program, "GET /v1/config", None, &Value::Null);
    let said = shown["text"].as_str().unwrap();
    assert!(said.starts_with("# Ours.\n[upstream.app]") && !said.contains("hunter2"), "{said}");
    assert_eq!(shown["file"], program.folder().join("evenkeel.toml").display().to_string());
    let problem = &shown["problems"][0];
    assert_eq!(problem["level"], "warning", "{shown}");
    let line = said.lines().nth(problem["line"].as_u64().unwrap() as usize - 1).unwrap();
    assert!(line.starts_with("[upstream.unused]") || line.contains("unused"), "{line}");
    // With the right to read the file it is what the file would be, and else it is not.
    told(&program, &["config", "--write", "again.toml"]);
    let again = std::fs::read_to_string(program.folder().join("again.toml")).unwrap();
    assert_eq!(again, text);
    // What is replaced keeps its rights, and a link stays one.
    let at = |name: &str| program.folder().join(name);
    std::fs::set_permissions(at("again.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .unwrap();
    std::os::unix::fs::symlink("again.toml", at("link.toml")).unwrap();
    told(&program, &["config", "--write", "link.toml"]);
    let about = std::fs::symlink_metadata(at("again.toml")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&about) & 0o777, 0o640);
    assert!(at("link.toml").is_symlink());
    let said = tell(&program, &["config"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("hunter2"));
}

#[test]
fn over_tcp_even_the_file_itself_has_no_secrets() {
    let backend = Backend::echo();
    let rest = format!(
        "[upstream.app]\nbackends = \"{}\"\nhealth = {{ send = \"AUTH hunter2\\r\\n\", expect = \"+OK\" }}\n\
         [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        backend.address
    );
    let (program, door, _folder) = crate::admin_tcp::with_token(&rest, "");
    let token = crate::admin_tcp::TOKEN;
    for path in ["/v1/config", "/v1/config?format=toml"] {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {door}\r\nAuthorization: Bearer {token}\r\n\r\n");
        let answer = Client::connect(door).send(head).answer();
        let text = answer.text();
        assert!(
            answer.status == 200 && text.contains("upstream.app") && !text.contains("hunter2"),
            "{text}"
        );
    }
    assert_echo(connect(program.address("public")), b"hello");
}

#[test]
fn an_upgrade_says_what_the_new_process_does_not_know() {
    let [one, other] = two_named();
    let mut program = Program::run(&config(&[one.address], "", ""));
    let name = other.address.to_string();
    told(&program, &["add", "app", &name]);
    let output = begin(&program, &["upgrade"]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("app/{name}: added over the admin API, the file takes that back")),
        "{said}"
    );
    program.until_said("`evenkeel config --write` would have kept it");
    program.follow();
    assert_eq!(answering(program.address("public")), "a");
}
