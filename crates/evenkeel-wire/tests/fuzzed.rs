//! The bodies of the fuzz targets, run on the seeds in `fuzz/seeds` with a few changes each: bytes
//! replaced, taken out, doubled or set in from a list of what parsers stumble over.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::{fuzz_bodies, hyper_reads};

const STUMBLES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"0",
    b"ffffffffffffffff",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.0",
    b"%",
    b"#",
    b"\\",
    b"@",
    b"_",
    b"\"",
    b"\x1e",
    b"\x1f",
    b":authority\x1fb\x1e",
    b"content-length\x1f5\x1e",
    b"cookie\x1fa=b\x1e",
];

#[derive(Clone, Debug)]
enum Change {
    Replace(Index, u8),
    Remove(Index, usize),
    Double(Index, usize),
    Insert(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Double(at, length)),
        (any::<Index>(), 0..STUMBLES.len()).prop_map(|(at, which)| Change::Insert(at, which)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let part = |at: &Index, length: usize| {
        let start = at.index(bytes.len());
        start..bytes.len().min(start + length)
    };
    match change {
        Change::Replace(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Remove(at, length) => drop(bytes.drain(part(at, *length))),
        Change::Double(at, length) => {
            let range = part(at, *length);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, copy);
        }
        Change::Insert(at, which) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, STUMBLES[*which].iter().copied());
        }
    }
}

/// The seeds of a target, in order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the seeds are there").flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed can be read")).collect()
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| body(seed));
    let changes = prop::collection::vec(change(), 1..6);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8_000) };
    proptest!(config, |(seed in prop::sample::select(seeds), changes in changes)| {
        let mut bytes = seed;
        changes.iter().for_each(|change| apply(&mut bytes, change));
        body(&bytes);
    });
}

#[test]
fn a_changed_request_has_one_reading_or_none() {
    run("request_head", fuzz_bodies::request_head);
}

#[test]
fn hyper_reads_a_request_written_on_as_we_do() {
    let compared =
        seeds("request_head").iter().filter(|seed| hyper_reads::request_head(seed)).count();
    assert_eq!(compared, 5, "all seeds but a tunnel, an upgrade and a refused one");
    run("request_head", |bytes| {
        let _ = hyper_reads::request_head(bytes);
    });
}

#[test]
fn a_changed_response_has_one_reading_or_none() {
    run("response_head", fuzz_bodies::response_head);
}

#[test]
fn a_changed_chunked_body_has_one_reading_or_none() {
    run("chunked", fuzz_bodies::chunked);
}

#[test]
fn a_changed_head_of_http2_goes_on_as_it_was_meant_or_not_at_all() {
    let requests = seeds("h2_head").iter().filter(|seed| fuzz_bodies::h2_head(seed)).count();
    assert_eq!(requests, 8, "all seeds but the frames and a refused one");
    run("h2_head", |bytes| {
        let _ = fuzz_bodies::h2_head(bytes);
    });
}

#[test]
fn a_changed_proxy_header_has_one_reading_or_none() {
    run("proxy_header", fuzz_bodies::proxy_header);
}

#[test]
fn a_changed_client_hello_has_one_reading_or_none() {
    run("client_hello", fuzz_bodies::client_hello);
}

#[test]
fn a_changed_trace_has_one_reading_or_none() {
    run("trace_parent", fuzz_bodies::trace_parent);
}

#[test]
fn changed_packets_end_in_one_place_or_nowhere() {
    run("packets", fuzz_bodies::packets);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn any_bytes_have_one_reading_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_bodies::request_head(&bytes);
        fuzz_bodies::response_head(&bytes);
        fuzz_bodies::chunked(&bytes);
        fuzz_bodies::proxy_header(&bytes);
        fuzz_bodies::client_hello(&bytes);
        fuzz_bodies::trace_parent(&bytes);
        fuzz_bodies::packets(&bytes);
        let _ = fuzz_bodies::h2_head(&bytes);
    }
}
