//! Parts of a file: one, several, or none that exist; never parts of two different files, and never more work than the whole.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::files::{root_of, site};
use crate::support::http::{Answer, Client};

fn ask(client: &mut Client, path: &str, lines: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")).answer()
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

/// The parts of an answer, each with its Content-Range.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let content_type = answer.field("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut rest = &answer.body[..];
    let mut parts = Vec::new();
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|at| at == what);
    let mut delimiter = format!("--{boundary}");
    while let Some(after) = rest.strip_prefix(format!("{delimiter}\r\n").as_bytes()) {
        let head_end = find(after, b"\r\n\r\n").unwrap();
        let head = String::from_utf8(after[..head_end].to_vec()).unwrap();
        delimiter = format!("\r\n--{boundary}");
        let body = &after[head_end + 4..];
        let end = find(body, delimiter.as_bytes()).unwrap();
        let range = head.lines().find_map(|line| line.strip_prefix("Content-Range: ")).unwrap();
        assert!(head.contains("Content-Type: application/octet-stream"), "{head}");
        parts.push((range.to_owned(), body[..end].to_vec()));
        rest = &body[end..];
    }
    assert_eq!(rest, format!("{delimiter}--\r\n").as_bytes());
    parts
}

#[test]
fn several_ranges_are_one_answer_with_several_parts_in_the_order_asked_for() {
    let (folder, _running, door, _) = site("");
    let bytes = crate::support::noise(1, 1_000_000);
    fs::write(root_of(&folder).join("big"), &bytes).unwrap();
    let mut client = Client::connect(door);
    let answer = ask(&mut client, "/static/big", "Range: bytes=500-599, 10-19 ,-7,2000000-");
    assert_eq!((answer.status, answer.field("content-range")), (206, None));
    let cut = |from: usize, to: usize| {
        (format!("bytes {from}-{}/1000000", to - 1), bytes[from..to].to_vec())
    };
    assert!(parts(&answer) == [cut(500, 600), cut(10, 20), cut(999_993, 1_000_000)]);
    // Parts big enough to go out of the page cache, with words of ours between them.
    let answer = ask(&mut client, "/static/big", "Range: bytes=0-299999,400000-799999");
    assert!(parts(&answer) == [cut(0, 300_000), cut(400_000, 800_000)]);
    // One that remains is no multipart, and none is none.
    let one = ask(&mut client, "/static/big", "Range: bytes=1-2,2000000-");
    assert_eq!((one.status, one.field("content-range")), (206, Some("bytes 1-2/1000000")));
    let none = ask(&mut client, "/static/big", "Range: bytes=1000000-,2000000-");
    assert_eq!((none.status, none.field("content-range")), (416, Some("bytes */1000000")));
    assert_eq!(ask(&mut client, "/static/a.html", "").text(), "hello");
}

#[test]
fn a_thousand_ranges_cost_no_more_than_the_file() {
    let (folder, _running, door, _) = site("");
    fs::write(root_of(&folder).join("big"), vec![b'x'; 100_000]).unwrap();
    let mut client = Client::connect(door);
    let list = |each: &dyn Fn(usize) -> String| (0..1300).map(each).collect::<Vec<_>>().join(",");
    // CVE-2011-3192: each from another byte to the end.
    for many in [list(&|n| format!("{n}-")), list(&|_| "0-".into()), list(&|n| format!("{n}-{n}"))]
    {
        let answer = ask(&mut client, "/static/big", &format!("Range: bytes={many}"));
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    }
    for few in ["0-,0-", "0-99998,1-", "0-1,1-2", "5-10,0-6"] {
        let answer = ask(&mut client, "/static/big", &format!("Range: bytes={few}"));
        assert_eq!((answer.status, answer.body.len()), (200, 100_000), "{few}");
    }
}

#[test]
fn a_range_beyond_every_number_does_not_wrap_around() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    // CVE-2017-7529: suffixes whose sum, or whose difference to the length, leaves 64 bits.
    for (range, status, body) in [
        ("-18446744073709551616", 206, "hello"),
        ("-9223372036854775808", 206, "hello"),
        ("-18446744073709551615,-9223372036854775809", 200, "hello"),
        ("0-18446744073709551615", 206, "hello"),
        ("1-99999999999999999999999999", 206, "ello"),
        ("18446744073709551615-", 416, ""),
        ("18446744073709551616-18446744073709551617", 416, ""),
        ("-0", 416, ""),
        ("--1", 200, "hello"),
        ("0x1-2", 200, "hello"),
    ] {
        let answer = ask(&mut client, "/static/a.html", &format!("Range: bytes={range}"));
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{range}");
    }
}

#[test]
fn if_range_holds_for_exactly_the_file_it_was_begun_from() {
    let (folder, _running, door, _) = site("open-files = \"off\"");
    let path = root_of(&folder).join("a.html");
    let set = |age: u64| {
        let then = SystemTime::now() - Duration::from_secs(age);
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    };
    set(3600);
    let mut client = Client::connect(door);
    let first = client.get("/static/a.html");
    let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let mut status = |mark: &str| {
        ask(&mut client, "/static/a.html", &format!("Range: bytes=0-0\r\nIf-Range: {mark}")).status
    };
    assert_eq!(status(etag), 206);
    assert_eq!(status(&format!("W/{etag}")), 200, "a weak mark proves nothing about bytes");
    assert_eq!(status(modified), 206);
    assert_eq!(status("Fri, 01 Jan 2100 00:00:00 GMT"), 200, "another date, though later");
    set(7200);
    assert_eq!((status(etag), status(modified)), (200, 200));
}
