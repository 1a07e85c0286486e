//! Answers are compressed for whoever understands it, and only those that may be: the rest arrives as it was sent.

use std::fs;
use std::time::Duration;

use crate::support::coded::{ALL, css, decoded, route, site as compressing, text};
use crate::support::files::{root_of, site};
use crate::support::h2::{H2Client, request};
use crate::support::http::{Answer, Asked, Client, Recorder, config, serve};
use crate::support::program::Program;
use crate::support::servers::{program, run};

fn ask(client: &mut Client, path: &str, lines: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).answer()
}

fn accepting(client: &mut Client, path: &str, codings: &str) -> Answer {
    ask(client, path, &format!("Accept-Encoding: {codings}\r\n"))
}

#[test]
fn every_coding_arrives_as_it_was_sent_in_both_versions() {
    let body = text(50_000);
    let sent = body.clone();
    let (recorder, _running, door) = compressing("compress = true", move |_| css(&sent));
    let mut client = Client::connect(door);
    for coding in ALL {
        let answer = accepting(&mut client, "/", coding);
        assert_eq!(answer.field("content-encoding"), Some(coding));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("content-length"), None);
        assert_eq!(answer.field("accept-ranges"), None);
        assert_eq!(answer.field("etag"), Some("W/\"v\""));
        assert!(answer.body.len() < body.len() / 2, "{coding}: {}", answer.body.len());
        assert_eq!(decoded(coding, &answer.body).unwrap(), body, "{coding}");

        let mut asked = request("GET", "/");
        asked.headers_mut().insert("accept-encoding", coding.parse().unwrap());
        let answer = H2Client::connect(door).send(asked, None, None).unwrap();
        assert_eq!(answer.field("content-encoding"), Some(coding));
        assert_eq!((answer.field("content-length"), answer.field("etag")), (None, Some("W/\"v\"")));
        assert_eq!(decoded(coding, &answer.body).unwrap(), body, "{coding}");
    }
    let accepted = recorder.backend.accepted();
    assert!(accepted <= 4, "connections to the backend are used again: {accepted}");
}

#[test]
fn curl_reads_what_it_asked_for() {
    let body = text(300_000);
    let sent = body.clone();
    let (_recorder, _running, door) = compressing("compress = true", move |_| css(&sent));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ALL {
            let mut curl = std::process::Command::new(program("curl"));
            let header = format!("Accept-Encoding: {coding}");
            curl.args(["-sSf", version, "--compressed", "-H", &header, "-w", "%{size_download}"]);
            let said = run(curl.arg(format!("http://{door}/")), Duration::from_secs(30));
            let size = said.strip_prefix(std::str::from_utf8(&body).unwrap());
            let size: usize = size.expect("the body that was sent").parse().unwrap();
            assert!(size < body.len() / 2, "{coding} by {version}: {size} bytes came");
        }
    }
}

#[test]
fn a_client_gets_the_coding_that_it_likes_best() {
    let (_recorder, _running, door) =
        compressing("compress = { codings = [\"zstd\", \"gzip\"] }", |_| css(&text(5000)));
    let mut client = Client::connect(door);
    for (accept, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("gzip")),
        ("zstd;q=0.5, gzip;q=0.6", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("*", Some("zstd")),
        ("*, zstd;q=0", Some("gzip")),
        ("identity;q=0, *;q=0.1", Some("zstd")),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0", None),
        ("br", None),
        ("gzip;q=0", None),
        ("", None),
    ] {
        let answer = accepting(&mut client, "/", accept);
        assert_eq!(answer.field("content-encoding"), coding, "{accept}");
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"), "{accept}");
        let body = coding.map_or(answer.body.clone(), |it| decoded(it, &answer.body).unwrap());
        assert_eq!(body, text(5000), "{accept}");
    }
    // One that says nothing of codings gets none.
    assert_eq!(client.get("/").field("content-encoding"), None);
}

/// Answers that must arrive as they were sent: the status and lines of each, by its path.
const NEVER: [(&str, u16, &str); 12] = [
    ("/coded", 200, "Content-Type: text/css\r\nContent-Encoding: gzip\r\n"),
    ("/foreign", 200, "Content-Type: text/css\r\nContent-Encoding: aes128gcm\r\n"),
    ("/image", 200, "Content-Type: image/png\r\n"),
    ("/untyped", 200, ""),
    ("/signed", 200, "Content-Type: text/css\r\nCache-Control: max-age=1, no-transform\r\n"),
    ("/part", 206, "Content-Type: text/css\r\nContent-Range: bytes 0-1999/5000\r\n"),
    ("/odd-part", 200, "Content-Type: text/css\r\nContent-Range: bytes 0-1999/5000\r\n"),
    ("/summed", 200, "Content-Type: text/css\r\nTrailer: Content-Digest\r\n"),
    ("/lost", 404, "Content-Type: text/css\r\n"),
    ("/broken", 500, "Content-Type: text/css\r\n"),
    ("/elsewhere", 302, "Content-Type: text/css\r\nLocation: /\r\n"),
    ("/grpc", 200, "Content-Type: application/grpc\r\n"),
];

fn never(asked: &Asked) -> Vec<u8> {
    let path = asked.line.split(' ').nth(1).unwrap();
    let (_, status, lines) = NEVER.iter().find(|(known, ..)| *known == path).unwrap();
    let head = format!("HTTP/1.1 {status} X\r\nETag: \"v\"\r\n{lines}Content-Length: 2000\r\n\r\n");
    [head.into_bytes(), text(2000)].concat()
}

#[test]
fn what_is_not_to_be_changed_arrives_as_it_was_sent() {
    let (_recorder, _running, door) = compressing("compress = true", never);
    let mut client = Client::connect(door);
    let h2 = H2Client::connect(door);
    for (path, status, lines) in NEVER {
        let answer = accepting(&mut client, path, "br, zstd, gzip");
        assert_eq!((answer.status, &answer.body), (status, &text(2000)), "{path}");
        assert_eq!(answer.field("content-length"), Some("2000"), "{path}");
        assert_eq!(answer.field("etag"), Some("\"v\""), "{path}");
        assert_eq!(answer.field("vary"), None, "{path}");
        let coding = lines.split("Content-Encoding: ").nth(1).and_then(|rest| rest.lines().next());
        assert_eq!(answer.field("content-encoding"), coding, "{path}");
        let mut asked = request("GET", path);
        asked.headers_mut().insert("accept-encoding", "br, zstd, gzip".parse().unwrap());
        let answer = h2.send(asked, None, None).unwrap();
        assert_eq!((answer.status, answer.body), (status, text(2000)), "{path}");
    }
}

#[test]
fn short_answers_and_those_of_other_types_stay_as_they_are() {
    let (_recorder, _running, door) =
        compressing("compress = { types = \"application/*+json\", min-size = 500 }", |asked| {
            let kind = if asked.line.contains("json") { "application/ld+json" } else { "text/css" };
            let length = if asked.line.contains("short") { 499 } else { 500 };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
            [head.as_bytes(), b"\r\n", &text(length)].concat()
        });
    let mut client = Client::connect(door);
    for (path, coding, vary) in [
        ("/json", Some("gzip"), Some("Accept-Encoding")),
        ("/json/short", None, None),
        ("/css", None, None),
    ] {
        let answer = accepting(&mut client, path, "gzip");
        assert_eq!((answer.field("content-encoding"), answer.field("vary")), (coding, vary));
    }
}

#[test]
fn nothing_is_compressed_where_no_route_says_so() {
    let recorder = Recorder::answering(|_| css(&text(5000)));
    let routes = "[[http.web.route]]\npath = \"/on\"\nupstream = \"app\"\ncompress = true\n\
                  [[http.web.route]]\npath = \"/off\"\nupstream = \"app\"\ncompress = false";
    let (_running, door) = serve(&config(&[recorder.address()], "", routes));
    let mut client = Client::connect(door);
    for (path, coding) in [("/on", Some("gzip")), ("/off", None), ("/", None)] {
        let answer = accepting(&mut client, path, "gzip");
        assert_eq!(answer.field("content-encoding"), coding, "{path}");
        assert_eq!(answer.field("vary").is_some(), coding.is_some(), "{path}");
    }
    // What it accepts is the client's to say, and the backend's to know.
    assert!(recorder.requests().iter().all(|asked| asked.field("accept-encoding") == Some("gzip")));
}

#[test]
fn head_is_told_the_same_as_get() {
    let (_recorder, _running, door) = compressing("compress = true", |asked| {
        let whole = css(&text(5000));
        let head = whole.len() - if asked.line.starts_with("HEAD") { 5000 } else { 0 };
        whole[..head].to_vec()
    });
    let mut client = Client::connect(door);
    for lines in ["Accept-Encoding: br\r\n", "", "Accept-Encoding: identity\r\n"] {
        let told = client.send(format!("HEAD / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let told = told.try_answer(true).unwrap();
        let got = ask(&mut client, "/", lines);
        let framing = |(name, _): &&(String, String)| name != "transfer-encoding";
        let mut fields: Vec<_> = got.fields.iter().filter(framing).collect();
        let mut expected: Vec<_> = told.fields.iter().collect();
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected, "{lines}");
        assert_eq!(told.field("content-length").is_none(), lines.contains("br"), "{lines}");
    }
}

#[test]
fn a_client_of_http_1_0_or_of_a_range_gets_the_body_as_it_is() {
    let (_recorder, _running, door) = compressing("compress = true", |_| css(&text(5000)));
    let head = "GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n";
    let old = Client::connect(door).send(format!("{head}Connection: keep-alive\r\n\r\n")).answer();
    assert_eq!((old.field("content-length"), &old.body), (Some("5000"), &text(5000)));
    let lines = "Accept-Encoding: gzip\r\nRange: bytes=0-\r\n";
    let part = ask(&mut Client::connect(door), "/", lines);
    assert_eq!((part.field("content-encoding"), &part.body), (None, &text(5000)));
    assert_eq!(part.field("vary"), Some("Accept-Encoding"));
}

#[test]
fn an_answer_without_a_body_stays_without_one() {
    let (_recorder, _running, door) = compressing("compress = { min-size = 0 }", |asked| {
        let status = asked.line.split('/').nth(1).unwrap().split(' ').next().unwrap();
        let length = if status == "200" { "Content-Length: 0\r\n" } else { "" };
        format!("HTTP/1.1 {status} X\r\nContent-Type: text/css\r\nETag: \"v\"\r\n{length}\r\n")
            .into()
    });
    let mut client = Client::connect(door);
    for status in [200, 204, 304] {
        let lines = "Accept-Encoding: br\r\nIf-None-Match: W/\"v\"\r\n";
        let answer = ask(&mut client, &format!("/{status}"), lines);
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!(answer.field("content-encoding"), None);
        // A mark that a client got from us is the one that it is told of.
        let tag = if status == 304 { "W/\"v\"" } else { "\"v\"" };
        assert_eq!(answer.field("etag"), Some(tag));
    }
}

#[test]
fn a_switched_protocol_is_not_compressed() {
    let (_recorder, _running, door) = compressing("compress = true", |_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n";
        [head.as_bytes(), b"Content-Type: text/css\r\n\r\n", &text(5000)].concat()
    });
    let mut client = Client::connect(door);
    let lines = "Connection: upgrade\r\nUpgrade: chat\r\nAccept-Encoding: gzip\r\n";
    let answer = ask(&mut client, "/", lines);
    assert_eq!((answer.status, answer.field("content-encoding")), (101, None));
    let mut bytes = vec![0; 5000];
    std::io::Read::read_exact(&mut client.stream, &mut bytes).unwrap();
    assert_eq!(bytes, text(5000));
}

#[test]
fn files_are_compressed_and_known_again_by_their_mark() {
    let (folder, _running, door, _) = site(
        "compress = true\nprecompressed = \"gzip\"\ncache = { \"raw.css\" = \"no-transform\" }",
    );
    let root = root_of(&folder);
    for (name, length) in
        [("small.css", 5000), ("big.css", 700_000), ("raw.css", 5000), ("a.png", 5000)]
    {
        fs::write(root.join(name), text(length)).unwrap();
    }
    fs::write(root.join("small.css.gz"), "G").unwrap();
    let mut client = Client::connect(door);
    for (name, length) in [("small.css", 5000), ("big.css", 700_000)] {
        let path = format!("/static/{name}");
        for coding in ["br", "zstd"] {
            let answer = accepting(&mut client, &path, coding);
            assert_eq!(answer.field("content-encoding"), Some(coding), "{name}");
            assert_eq!(answer.field("accept-ranges"), None, "{name}");
            assert_eq!(decoded(coding, &answer.body).unwrap(), text(length), "{name} {coding}");
            let mark = answer.field("etag").unwrap();
            assert!(mark.starts_with("W/\""), "{mark}");
            let lines = format!("Accept-Encoding: {coding}\r\nIf-None-Match: {mark}\r\n");
            let known = ask(&mut client, &path, &lines);
            assert_eq!((known.status, known.field("etag")), (304, Some(mark)));
            // A part of the file as it is must not be put to a part of the compressed one.
            let lines = format!("Range: bytes=0-99\r\nIf-Range: {mark}\r\nAccept-Encoding: br\r\n");
            let whole = ask(&mut client, &path, &lines);
            assert_eq!((whole.status, whole.body), (200, text(length)));
        }
        let part = ask(&mut client, &path, "Accept-Encoding: br\r\nRange: bytes=0-99\r\n");
        assert_eq!((part.status, part.field("content-encoding")), (206, None));
        assert_eq!((&part.body, part.field("vary")), (&text(100), Some("Accept-Encoding")));
        let mut asked = request("GET", &path);
        asked.headers_mut().insert("accept-encoding", "br".parse().unwrap());
        let answer = H2Client::connect(door).send(asked, None, None).unwrap();
        assert_eq!(decoded("br", &answer.body).unwrap(), text(length), "{name}");
    }
    // What lies there compressed goes before what would have to be.
    assert_eq!(accepting(&mut client, "/static/small.css", "gzip").text(), "G");
    for name in ["raw.css", "a.png"] {
        let answer = accepting(&mut client, &format!("/static/{name}"), "br");
        assert_eq!((answer.field("content-encoding"), &answer.body), (None, &text(5000)), "{name}");
        assert_eq!(answer.field("accept-ranges"), Some("bytes"), "{name}");
    }
}

#[test]
fn an_access_line_counts_the_bytes_that_went_to_the_client() {
    let recorder = Recorder::answering(|_| css(&text(50_000)));
    let own = route(&[recorder.address()], "", "compress = true");
    let program = Program::run(&format!("{own}[log]\nformat = \"json\"\n"));
    let mut client = Client::connect(program.address("web"));
    let coded = accepting(&mut client, "/", "gzip").body.len();
    let plain = client.get("/").body.len();
    let lines = program.until_lines(2);
    let down = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes_down"].as_u64().unwrap()
    };
    let counted: Vec<_> = lines.iter().map(down).collect();
    assert_eq!(counted, [coded as u64, plain as u64], "{lines:?}");
    assert!(coded < plain / 2);
}

#[test]
fn answers_of_our_own_are_not_compressed() {
    let (_recorder, _running, door) =
        compressing("compress = true", |_| b"HTTP/1.1 broken\r\n\r\n".to_vec());
    let answer = accepting(&mut Client::connect(door), "/", "gzip");
    assert_eq!((answer.status, answer.field("content-encoding")), (502, None));
    assert!(answer.text().contains("502"));
}
