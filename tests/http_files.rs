//! Files come from under their folder and from nowhere else, as the standard says, and slow ones hold nobody up.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::http::{Client, Recorder, config, serve};

/// A folder with a few files, beside one that nobody may reach, and a proxy that serves it under `/static/*`.
fn site(more: &str) -> (tempfile::TempDir, evenkeel::Running, std::net::SocketAddr, Recorder) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir(folder.path().join("root-evil")).unwrap();
    fs::write(folder.path().join("root-evil/secret"), "secret").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(root.join("a.html"), "hello").unwrap();
    fs::write(root.join("sub/index.html"), "index").unwrap();
    fs::write(root.join(".hidden"), "secret").unwrap();
    fs::write(root.join("unknown.kind"), "?").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("/etc/passwd", root.join("far")).unwrap();
    symlink("a.html", root.join("in")).unwrap();
    let recorder = Recorder::echoing();
    let route = format!(
        "[[http.web.route]]\npath = \"/static/*\"\nfiles = \"{}\"\n{more}\n",
        root.display()
    );
    let (running, door) = serve(&config(&[recorder.address()], "", &route));
    (folder, running, door, recorder)
}

#[test]
fn a_file_comes_with_its_type_length_and_marks() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    let answer = client.get("/static/a.html");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.field("content-type"), Some("text/html"));
    assert!(answer.field("etag").is_some() && answer.field("last-modified").is_some());
    assert_eq!(
        client.get("/static/unknown.kind").field("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(client.get("/static/in").text(), "hello");
    client.send("HEAD /static/a.html HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_answer(true).unwrap();
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
}

#[test]
fn a_folder_is_its_index_and_is_asked_for_with_a_slash() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/sub/").text(), "index");
    let moved = client.get("/static/sub?x=1");
    assert_eq!((moved.status, moved.field("location")), (301, Some("/static/sub/?x=1")));
}

#[test]
fn nothing_outside_the_folder_and_nothing_hidden_is_ever_served() {
    let (_folder, _running, door, recorder) = site("");
    for path in [
        "/static/../secret",
        "/static/..%2fsecret",
        "/static/%2e%2e/secret",
        "/static/.%2e/secret",
        "/static/sub/../../secret",
        "/static/..%5csecret",
        "/static/%2e%2e%2froot-evil/secret",
        "/static/../root-evil/secret",
        "/static-evil/secret",
        "/static/out",
        "/static/far",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/a.html%00",
        "/static/a.html/",
        "/static/.hidden",
        "/static/%2ehidden",
        "/static/\u{0}a",
        "/static/%c0%ae%c0%ae/secret",
        "/static/nothing",
    ] {
        let answer = Client::connect(door).get(path);
        assert!(!answer.text().contains("secret\n") && answer.text() != "secret", "{path}");
        assert!(!answer.text().contains("root:"), "{path}");
        let passed_on = answer.status == 200;
        assert!(!passed_on || !recorder.requests().is_empty(), "{path}: {}", answer.status);
    }
}

#[test]
fn only_reading_is_allowed() {
    let (_folder, _running, door, _) = site("");
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        let mut client = Client::connect(door);
        client.send(format!(
            "{method} /static/a.html HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(client.answer().status, 405, "{method}");
    }
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    let first = client.get("/static/a.html");
    let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let mut ask = |line: &str| {
        client
            .send(format!("GET /static/a.html HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .answer()
            .status
    };
    assert_eq!(ask(&format!("If-None-Match: \"x\", W/{etag}")), 304);
    assert_eq!(ask("If-None-Match: *"), 304);
    assert_eq!(ask("If-None-Match: \"x\""), 200);
    assert_eq!(ask(&format!("If-Modified-Since: {modified}")), 304);
    assert_eq!(ask("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 200);
    assert_eq!(ask("If-Match: \"x\""), 412);
    assert_eq!(ask(&format!("If-Match: {etag}")), 200);
    assert_eq!(ask("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 412);
}

#[test]
fn a_range_is_cut_out_and_an_old_one_is_not() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    let etag = client.get("/static/a.html").field("etag").unwrap().to_owned();
    let mut ask = |lines: &str| {
        client.send(format!("GET /static/a.html HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")).answer()
    };
    let part = ask("Range: bytes=1-3");
    assert_eq!((part.status, part.text().as_str()), (206, "ell"));
    assert_eq!(part.field("content-range"), Some("bytes 1-3/5"));
    assert_eq!(ask("Range: bytes=-2").text(), "lo");
    let beyond = ask("Range: bytes=5-");
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */5")));
    assert_eq!(ask("Range: bytes=0-0\r\nIf-Range: \"old\"").status, 200);
    assert_eq!(ask(&format!("Range: bytes=0-0\r\nIf-Range: {etag}")).status, 206);
}

#[test]
fn a_thousand_ranges_cost_no_more_than_the_file() {
    let (_folder, _running, door, _) = site("");
    let many: Vec<String> = (0..1300).map(|n| format!("{n}-")).collect();
    let answer = Client::connect(door)
        .send(format!(
            "GET /static/a.html HTTP/1.1\r\nHost: a\r\nRange: bytes={}\r\n\r\n",
            many.join(",")
        ))
        .answer();
    assert_eq!((answer.status, answer.body.len()), (200, 5));
}

#[test]
fn what_is_not_among_the_files_is_asked_of_the_upstream() {
    let (_folder, _running, door, recorder) = site("try = \"upstream:app\"");
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/a.html").text(), "hello");
    assert_eq!(client.get("/static/b").text(), "GET /static/b HTTP/1.1");
    client.send("POST /static/a.html HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.answer().text(), "POST /static/a.html HTTP/1.1");
    assert_eq!(recorder.requests()[1].body, b"hi");
}

#[test]
fn a_big_file_arrives_whole_and_a_pipe_is_no_file() {
    let (folder, _running, door, _) = site("");
    let bytes = crate::support::noise(7, 10_000_000);
    fs::write(folder.path().join("root/big"), &bytes).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("root/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let mut client = Client::connect(door);
    assert!(client.get("/static/big").body == bytes);
    assert_eq!(client.get("/static/pipe").status, 404);
}
