//! Ranges of bytes (RFC 9110 14): which parts of a file a request is to get. What is malformed, overlaps, or would
//! cost more than the file as a whole is answered with the whole, so that no request can make work out of nothing
//! (CVE-2011-3192, CVE-2017-7529).

use std::ops::Range;

/// Ranges of one request; a client that wants more wants the file.
const RANGES_MAX: usize = 16;

/// What one more part costs beside its bytes: a boundary, a type, a length, and reading at another place. Parts
/// that are not worth it make the whole file cheaper.
const PART_COST: u64 = 256;

/// What a Range field asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    /// At least one part, none of them empty, in the order they were asked for.
    Parts(Vec<Range<u64>>),
    Nothing,
}

/// Reads the value of a Range field for a file of this length.
pub(super) fn asked(value: &[u8], length: u64) -> Asked {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let Some((unit, list)) = text.split_once('=') else { return Asked::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let mut parts = Vec::new();
    let elements = list.split(',').map(|one| one.trim_matches([' ', '\t']));
    // Empty elements of a list count for nothing (RFC 9110 5.6.1), but are counted here.
    for (index, element) in elements.enumerate() {
        if index >= RANGES_MAX {
            return Asked::Whole;
        }
        if element.is_empty() {
            continue;
        }
        match one(element, length) {
            Some(part) if part.start < part.end => parts.push(part),
            Some(_) => {}
            None => return Asked::Whole,
        }
    }
    match parts.len() {
        0 if list.bytes().all(|byte| b", \t".contains(&byte)) => Asked::Whole,
        0 => Asked::Nothing,
        1 => Asked::Parts(parts),
        _ if are_worth_it(&parts, length) => Asked::Parts(parts),
        _ => Asked::Whole,
    }
}

/// Whether several parts are apart from each other, and together cheaper than the whole.
fn are_worth_it(parts: &[Range<u64>], length: u64) -> bool {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_by_key(|part| part.start);
    let are_apart = sorted.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
    are_apart && bytes.saturating_add(PART_COST * parts.len() as u64) <= length
}

/// One range; an empty one lies beyond the end. None where it is malformed.
fn one(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds mean: beyond every end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first, last) {
        ("", suffix) if digits(suffix) => Some(length.saturating_sub(number(suffix))..length),
        (first, "") if digits(first) => Some(number(first)..length),
        (first, last) if digits(first) && digits(last) => {
            let is_forward = number(first) <= number(last);
            is_forward.then(|| number(first)..number(last).saturating_add(1).min(length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_out_and_anything_odd_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Some(0..1)),
            ("Bytes=0-0", Some(0..1)),
            ("bytes=2-", Some(2..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-30", Some(0..10)),
            ("bytes=5-99999999999999999999999", Some(5..10)),
            ("bytes=5-18446744073709551615", Some(5..10)),
            ("bytes=2-3,", Some(2..4)),
            ("bytes=2-3, 10-", Some(2..4)),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=--1", None),
            ("bytes=-18446744073709551616-", None),
            ("bytes=+1-2", None),
            ("bytes=a-b", None),
            ("bytes=0-1,x", None),
            ("bytes=", None),
            ("bytes=,", None),
            ("bytes", None),
            ("lines=0-1", None),
        ] {
            let expected = expected.map_or(Asked::Whole, |part| Asked::Parts(vec![part]));
            assert_eq!(asked(range.as_bytes(), 10), expected, "{range}");
        }
        for range in ["bytes=10-", "bytes=-0", "bytes=99999999999999999999999-", "bytes=10-,20-30"]
        {
            assert_eq!(asked(range.as_bytes(), 10), Asked::Nothing, "{range}");
        }
        assert_eq!(asked(b"bytes=0-", 0), Asked::Nothing);
    }

    #[test]
    fn several_ranges_must_be_few_apart_and_worth_it() {
        let length = 100_000;
        let parts = |range: &str| match asked(range.as_bytes(), length) {
            Asked::Parts(parts) => parts.len(),
            Asked::Whole => 0,
            Asked::Nothing => usize::MAX,
        };
        assert_eq!(parts("bytes=0-9,20-29"), 2);
        assert_eq!(parts("bytes=50-59 ,\t20-29, -1"), 3);
        assert_eq!(parts("bytes=0-9,10-19"), 2);
        assert_eq!(parts("bytes=0-10,10-19"), 0, "they overlap");
        assert_eq!(parts("bytes=0-,0-"), 0, "the same twice");
        assert_eq!(parts("bytes=0-49999,50000-99999"), 0, "no cheaper than the whole");
        let many = |n: u64| (0..n).map(|n| format!("{}-{}", n * 20, n * 20)).collect::<Vec<_>>();
        assert_eq!(parts(&format!("bytes={}", many(16).join(","))), 16);
        assert_eq!(parts(&format!("bytes={}", many(17).join(","))), 0);
        assert_eq!(parts(&format!("bytes={}", ",".repeat(2000))), 0);
        assert_eq!(parts("bytes=200000-,300000-"), usize::MAX);
    }

    proptest::proptest! {
        #[test]
        fn parts_lie_within_the_file_and_cost_no_more(text in "[0-9,\\- ]{0,80}", length: u64) {
            if let Asked::Parts(parts) = asked(format!("bytes={text}").as_bytes(), length) {
                let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
                assert!(bytes <= length && !parts.is_empty() && parts.len() <= RANGES_MAX);
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}
