//! What access lines look like and which are written: the formats of web servers, templates, a sample, what is skipped.
//! One request is one line, whatever a client sends.

use std::path::Path;

use crate::support::http::{Client, Recorder, config, ok, serve};
use crate::support::program::Program;
use crate::support::{client, until};

/// The real binary with a listener `web` over one backend, and a `[log]` of its own.
fn logging(backend: &Recorder, listener: &str, log: &str) -> Program {
    let own = config(&[backend.address()], "", listener);
    Program::run(&format!("{own}\n[log]\n{log}\n"))
}

fn polite() -> Recorder {
    Recorder::answering(|request| match request.line.contains("/broken") {
        true => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok(b"12345"),
    })
}

#[test]
fn a_combined_line_is_what_httpd_would_write() {
    let backend = polite();
    let program = logging(&backend, "", "access-format = \"combined\"");
    let mut client = Client::connect(program.address("web"));
    client.send("GET /a?b=\"c\" HTTP/1.1\r\nHost: app.test\r\nReferer: http://a/\r\nUser-Agent: Lynx \"2\\8\" é\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let mut other = Client::connect(program.address("web"));
    other.send("HEAD /h HTTP/1.0\r\n\r\n").try_answer(true).unwrap();
    let lines = program.until_lines(2);
    let form = regex::Regex::new(
        r#"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z][a-z]/20\d\d:\d\d:\d\d:\d\d \+0000\] (.*)$"#,
    );
    let form = form.unwrap();
    let rest = |line: &String| {
        let found = form.captures(line).unwrap_or_else(|| panic!("{line}"));
        found[1].to_owned()
    };
    assert_eq!(
        lines.iter().map(rest).collect::<Vec<_>>(),
        [
            r#""GET /a?b=\x22c\x22 HTTP/1.1" 200 5 "http://a/" "Lynx \x222\x5C8\x22 \xC3\xA9""#,
            r#""HEAD /h HTTP/1.0" 200 - "-" "-""#,
        ]
    );
}

#[test]
fn a_template_is_filled_in_with_what_was_measured() {
    let backend = polite();
    let program = logging(
        &backend,
        "",
        "access-format = '{client.ip} {request.id} {method} {host} {path} {query} {status} {total.ms} {backend} {why} [{header.x-tenant}] {header.x-none}'",
    );
    let mut client = Client::connect(program.address("web"));
    client.send("POST /a?b HTTP/1.1\r\nHost: app.test\r\nX-Tenant: one\r\nx-tenant: two\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let line = program.until_lines(1).remove(0);
    let id = backend.requests()[0].field("x-request-id").unwrap().to_owned();
    let address = backend.address();
    let (before, after) = line.split_once(" 200 ").unwrap();
    assert_eq!(before, format!("127.0.0.1 {id} POST app.test /a b"));
    let (millis, after) = after.split_once(' ').unwrap();
    assert!(millis.parse::<f64>().is_ok_and(|millis| millis > 0.0), "{line}");
    assert_eq!(after, format!("{address} answered [one, two] -"));
}

#[test]
fn a_tcp_connection_has_a_text_line_where_httpd_has_no_words_for_it() {
    let echo = crate::support::backend::Backend::echo();
    let own = crate::support::config(&[echo.address], "", "");
    let program = Program::run(&format!("{own}[log]\naccess-format = \"combined\"\n"));
    drop(client::connect(program.address("public")));
    let line = program.until_lines(1).remove(0);
    assert!(line.contains(" public app ") && line.ends_with(" tried=1"), "{line}");
}

/// Everything that a log reader or a terminal could take for more than a letter, in every place a client can write.
const NASTY: [&str; 12] = [
    "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\"\\\" HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%0d%0aGET%20/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\x1b]0;title\x07\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\" 200 0 \"y\\\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\u{9b}31m\u{85}\u{2028}\u{2029}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nReferer: \tx\ty\t\"\r\nUser-Agent: \u{feff}\u{202e}\r\n\r\n",
    "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\"b\x1b\r\n\r\n",
];

#[test]
fn log_injection_one_request_is_one_line_whatever_a_client_sends() {
    let backend = polite();
    let template = "'{request} \"{header.user-agent}\" \"{header.referer}\" {host} {uri} {detail}'";
    for format in ["\"text\"", "\"json\"", "\"common\"", "\"combined\"", template] {
        let program = logging(&backend, "", &format!("access-format = {format}"));
        for bytes in NASTY {
            let mut client = Client::connect(program.address("web"));
            client.send(bytes).try_answer(false).unwrap();
        }
        // A last one, so that no line of those before can still be to come.
        let mut last = Client::connect(program.address("web"));
        last.get("/the-last");
        until("the last line", || program.output().contains("/the-last"));
        let output = program.output();
        assert_eq!(output.matches('\n').count(), NASTY.len() + 1, "{format}: {output:?}");
        let is_foul = |c: char| {
            (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')
        };
        if format == "\"json\"" {
            for line in output.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect(line);
                assert!(line["why"].is_string());
            }
            assert!(!output.contains(|c: char| is_foul(c) && c != '\u{202e}'), "{output:?}");
        } else {
            assert!(!output.contains(is_foul), "{format}: {output:?}");
        }
        if format == "\"combined\"" {
            for line in output.lines() {
                let quotes = line.matches('"').count();
                assert_eq!(quotes, 6, "a quote of a client's ends a field early: {line}");
            }
        }
    }
}

/// A proxy in this process whose access log is a file; its lines once it has stopped, and what was counted as left out.
fn lines_of(log: &str, folder: &Path, traffic: impl FnOnce(&mut Client)) -> (Vec<String>, u64) {
    let backend = polite();
    let file = folder.join("access.log");
    let own = config(&[backend.address()], "", "");
    let log = format!("[log]\naccess = \"{}\"\n{log}\n", file.display());
    let (running, door) = serve(&format!("{own}\n{log}"));
    let mut client = Client::connect(door);
    traffic(&mut client);
    drop(client);
    let counts = || running.counts();
    until("the connection has ended", || counts().open == 0);
    let left_out = counts().access_lines_left_out;
    running.stop();
    let text = std::fs::read_to_string(file).unwrap();
    (text.lines().map(str::to_owned).collect(), left_out)
}

#[test]
fn a_sample_has_its_share_of_what_went_well_and_every_failure() {
    let folder = tempfile::tempdir().unwrap();
    let log = "access-format = \"{status} {uri}\"\naccess-sample = \"10%\"";
    let (lines, left_out) = lines_of(log, folder.path(), |client| {
        for number in 0..400 {
            client.get(&format!("/fine/{number}"));
            if number % 20 == 0 {
                assert_eq!(client.get("/broken").status, 500);
            }
        }
    });
    let fine = lines.iter().filter(|line| line.starts_with("200 /fine/")).count();
    assert!((35..=45).contains(&fine), "{fine} of 400 at 10 %");
    assert_eq!(lines.iter().filter(|line| *line == "500 /broken").count(), 20);
    assert_eq!(lines.len() as u64 + left_out, 420);
}

#[test]
fn what_is_skipped_has_no_line_unless_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let log = "access-format = \"{status} {uri}\"\n\
               access-skip = { path = [\"/healthz\", \"/broken\"], status = \"200-299\" }";
    let (lines, left_out) = lines_of(log, folder.path(), |client| {
        for path in ["/healthz", "/a", "/healthz?x", "/broken"] {
            client.get(path);
        }
    });
    assert_eq!(lines, ["200 /a", "500 /broken"]);
    assert_eq!(left_out, 2);
}
