//! What the keys of routes to files promise: they stand with `files`, and say only what can be meant.

use super::{one_says, said, said_of};

#[test]
fn what_concerns_files_stands_with_files() {
    for (key, line) in [
        ("index", "index = \"home.html\""),
        ("hidden", "hidden = true"),
        ("listing", "listing = true"),
        ("precompressed", "precompressed = \"br\""),
        ("cache", "cache = { \"*\" = \"no-cache\" }"),
        ("open-files", "open-files = \"off\""),
        ("file-timeout", "file-timeout = \"1s\""),
        ("try", "try = \"upstream:app\""),
    ] {
        let expected = format!("{key} counts only with files");
        one_says(&said(&format!("upstream = \"app\"\n{line}")), &expected);
        assert_eq!(said(&format!("files = \"www\"\n{line}")), [""; 0]);
    }
    for index in ["", ".", "..", "a/b", "a\\\\b", "a\\u0000"] {
        let expected = "is not the name of a file";
        one_says(&said(&format!("files = \"www\"\nindex = \"{index}\"")), expected);
    }
    assert_eq!(said("files = \"www\"\nindex = []"), [""; 0]);
    for (line, expected) in [
        ("cache = { \"[\" = \"no-cache\" }", "is not a pattern: invalid range pattern"),
        ("cache = { \"css/*\" = \"no-cache\" }", "can never match"),
        ("cache = { \"*\" = \"a\\nb\" }", "this is not the value of Cache-Control"),
        ("cache = { \"*\" = \"\" }", "this is not the value of Cache-Control"),
        ("precompressed = [\"br\", \"gzip\", \"br\"]", "\"br\" stands here twice"),
        ("open-files = \"0s\"", "open-files must be longer than zero"),
        ("file-timeout = \"0s\"", "file-timeout must be longer than zero"),
    ] {
        one_says(&said(&format!("files = \"www\"\n{line}")), expected);
    }
    one_says(&said_of("upstream = \"app\"\n[process]\nfile-queue-max = 0"), "at least 1, not 0");
}
