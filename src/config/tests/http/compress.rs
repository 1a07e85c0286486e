//! What `compress` of a route promises: a switch or a table, and nothing in it that cannot be meant.

use super::{ALL, one_says, said, said_of};
use crate::config::{Bytes, Coding, Compression, Config, Toggle};

#[test]
fn compress_is_a_switch_or_a_table() {
    let config = Config::parse_with(ALL, &super::environment).unwrap();
    let [api, files, _, split, ..] = &config.http["web"].route[..] else { panic!("routes") };
    assert_eq!(api.compress, Toggle::Off);
    assert_eq!(split.compress, Toggle::On(Compression::default()));
    let table = Compression {
        codings: vec![Coding::Gzip, Coding::Br],
        types: vec!["text/*".to_owned(), "image/svg+xml".to_owned()],
        min_size: Bytes::kib(2),
        level: 6,
    };
    assert_eq!(files.compress, Toggle::On(table));
    for written in ["false", "true", "{ level = 1 }", "{ types = \"application/*+json\" }"] {
        assert_eq!(said(&format!("upstream = \"app\"\ncompress = {written}")), [""; 0]);
    }
}

#[test]
fn what_cannot_be_compressed_like_that_is_named() {
    for (written, expected) in [
        ("1", "expected true, false, or a table, found the integer 1"),
        ("\"on\"", "expected true or false, found the string \"on\""),
        ("{ level = 0 }", "level must be 1 to 6, not 0"),
        ("{ level = 7 }", "level must be 1 to 6, not 7"),
        ("{ codings = [] }", "no coding is named"),
        ("{ codings = [\"br\", \"br\"] }", "\"br\" stands here twice"),
        ("{ codings = \"deflate\" }", "\"deflate\" is not a compressed form"),
        ("{ types = [] }", "no type is named"),
        ("{ types = \"text\" }", "\"text\" is not a type"),
        ("{ types = \"text/\" }", "\"text/\" is not a type"),
        ("{ types = \"text/a/b\" }", "\"text/a/b\" is not a type"),
        ("{ types = \"text/css; charset=utf-8\" }", "\"text/css; charset=utf-8\" is not a type"),
        ("{ types = \"text/[\" }", "\"text/[\" is not a type: invalid range pattern"),
    ] {
        let said = said(&format!("upstream = \"app\"\ncompress = {written}"));
        assert!(matches!(&said[..], [one] if one.contains(expected)), "{written}: {said:#?}");
    }
    one_says(&said("reply = 200\ncompress = true"), "come from an upstream or from files");
    one_says(&said_of("upstream = \"app\"\n[process]\ncompress-max = 0"), "at least 1, not 0");
}
