//! Forms of a file that lie beside it compressed: who understands one gets it, everybody else the file as it is.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::files::{root_of, site};
use crate::support::http::{Answer, Client};

fn ask(client: &mut Client, path: &str, lines: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).answer()
}

#[test]
fn a_client_gets_the_form_it_likes_best_with_a_mark_of_its_own() {
    let (folder, _running, door, _) = site("precompressed = [\"br\", \"zstd\", \"gzip\"]");
    let root = root_of(&folder);
    for (ending, text) in [("br", "B"), ("zst", "Z"), ("gz", "G")] {
        fs::write(root.join(format!("a.html.{ending}")), text).unwrap();
    }
    let mut client = Client::connect(door);
    let mut marks = std::collections::HashSet::new();
    for (accept, body, coding) in [
        ("", "hello", None),
        ("br", "B", Some("br")),
        ("gzip, deflate, br, zstd", "B", Some("br")),
        ("gzip, deflate", "G", Some("gzip")),
        ("x-gzip", "G", Some("gzip")),
        ("br;q=0.1, zstd;q=0.9, gzip;q=0.5", "Z", Some("zstd")),
        ("br;q=0, gzip", "G", Some("gzip")),
        ("*", "B", Some("br")),
        ("*;q=0.5, br;q=0", "Z", Some("zstd")),
        ("identity", "hello", None),
        ("identity;q=1, br;q=0.5", "hello", None),
        ("identity;q=0, *;q=0", "hello", None),
        ("br;q=nonsense", "hello", None),
        ("deflate", "hello", None),
    ] {
        let answer = ask(&mut client, "/static/a.html", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{accept}");
        assert_eq!(answer.field("content-encoding"), coding, "{accept}");
        assert_eq!(answer.field("content-type"), Some("text/html"));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        marks.insert((coding, answer.field("etag").unwrap().to_owned()));
    }
    let mut etags: Vec<_> = marks.iter().map(|(_, etag)| etag).collect();
    etags.sort();
    etags.dedup();
    assert_eq!((marks.len(), etags.len()), (4, 4), "each form has one mark: {marks:?}");
    // Without the header there is no preference, and no other form.
    assert_eq!(client.get("/static/a.html").text(), "hello");
    let (_, etag) = marks.iter().find(|(coding, _)| *coding == Some("br")).unwrap();
    let lines = format!("Accept-Encoding: br\r\nIf-None-Match: {etag}\r\n");
    let known = ask(&mut client, "/static/a.html", &lines);
    assert_eq!((known.status, known.field("vary")), (304, Some("Accept-Encoding")));
    let other = ask(&mut client, "/static/a.html", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(other.status, 200, "the mark of one form says nothing of another");
}

#[test]
fn a_form_that_is_older_or_leads_out_or_is_not_configured_is_not_used() {
    let (folder, _running, door, _) = site("precompressed = \"gzip\"");
    let root = root_of(&folder);
    fs::write(root.join("a.html.gz"), "old").unwrap();
    let earlier = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(root.join("a.html.gz")).unwrap().set_modified(earlier).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("unknown.kind.gz")).unwrap();
    fs::write(root.join("unknown.kind.br"), "B").unwrap();
    fs::write(root.join("only.gz"), "G").unwrap();
    let mut client = Client::connect(door);
    let mut text = |path: &str| {
        let answer = ask(&mut client, path, "Accept-Encoding: gzip, br\r\n");
        (answer.status, answer.text(), answer.field("content-encoding").map(str::to_owned))
    };
    assert_eq!(text("/static/a.html"), (200, "hello".into(), None));
    assert_eq!(text("/static/unknown.kind"), (200, "?".into(), None));
    // What is asked for by its own name is a file like others, and nothing but that.
    assert_eq!(text("/static/only.gz"), (200, "G".into(), None));
    assert_eq!(text("/static/only").0, 404);
}

#[test]
fn a_range_counts_bytes_of_the_file_as_it_is() {
    let (folder, _running, door, _) = site("precompressed = \"br\"");
    fs::write(root_of(&folder).join("a.html.br"), "BBBBB").unwrap();
    let mut client = Client::connect(door);
    let part = ask(&mut client, "/static/a.html", "Accept-Encoding: br\r\nRange: bytes=1-2\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "el"));
    assert_eq!(part.field("content-encoding"), None);
    // A part begun from the compressed form is not continued from the other one.
    let whole = ask(&mut client, "/static/a.html", "Accept-Encoding: br\r\n");
    let lines = format!(
        "Accept-Encoding: br\r\nRange: bytes=1-2\r\nIf-Range: {}\r\n",
        whole.field("etag").unwrap()
    );
    let again = ask(&mut client, "/static/a.html", &lines);
    assert_eq!((again.status, again.text().as_str()), (200, "hello"));
}

#[test]
fn nothing_is_said_of_forms_where_none_are_configured() {
    let (folder, _running, door, _) = site("");
    fs::write(root_of(&folder).join("a.html.br"), "B").unwrap();
    let answer = ask(&mut Client::connect(door), "/static/a.html", "Accept-Encoding: br\r\n");
    assert_eq!((answer.text().as_str(), answer.field("vary")), ("hello", None));
}
