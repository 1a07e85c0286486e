//! Which of the codings that there are a client gets (RFC 9110 12.5.3).
//! A client that names none gets a body as it is; so does one that refuses everything, since an answer it may
//! not like is of more use than none.

use evenkeel_wire::{Fields, Known, elements};

use crate::config::Coding;

/// The place, among those that are offered, of the coding that suits a client best; none for a body as it is.
/// Of several that it likes as well, the first.
pub(super) fn preferred(asked: &Fields, offered: impl Iterator<Item = Coding>) -> Option<usize> {
    // Unless named, the body as it is weighs as much as what is least wanted.
    let as_it_is = named(asked, b"identity").unwrap_or(1);
    let mut chosen = (as_it_is, None);
    for (place, coding) in offered.enumerate() {
        let weight = quality(asked, coding.name().as_bytes()).or_else(|| {
            // RFC 9110 8.4.1.3: the same thing under an older name.
            (coding == Coding::Gzip).then(|| quality(asked, b"x-gzip")).flatten()
        });
        let weight = weight.unwrap_or(0);
        let is_first = chosen.1.is_none();
        if weight > 0 && (weight > chosen.0 || (is_first && weight == chosen.0)) {
            chosen = (weight, Some(place));
        }
    }
    chosen.1
}

/// The weight of a coding in thousandths: by its name, else by `*`.
fn quality(asked: &Fields, coding: &[u8]) -> Option<u16> {
    named(asked, coding).or_else(|| named(asked, b"*"))
}

fn named(asked: &Fields, coding: &[u8]) -> Option<u16> {
    let all = asked.all(Known::AcceptEncoding).flat_map(elements);
    let mut all = all.map(|element| {
        let mut parts = element.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        (name, parts.next().map_or(Some(1000), thousandths).unwrap_or(0))
    });
    all.find(|(name, _)| name.eq_ignore_ascii_case(coding)).map(|(_, weight)| weight)
}

/// `q=0.5` as 500. What is no weight is none: a coding is not sent on a guess.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?.trim();
    let (name, value) = text.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, digits) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{digits:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(accept: &str, coding: &str) -> Option<u16> {
        let mut fields = Fields::default();
        fields.push(b"Accept-Encoding", accept.as_bytes());
        quality(&fields, coding.as_bytes())
    }

    #[test]
    fn weights_are_read_as_the_standard_writes_them() {
        for (accept, coding, expected) in [
            ("br", "br", Some(1000)),
            ("gzip, BR;q=0.5", "br", Some(500)),
            ("br ; q=0.001", "br", Some(1)),
            ("br;q=1.000", "br", Some(1000)),
            ("br;q=0", "br", Some(0)),
            ("br;q=2", "br", Some(0)),
            ("br;q=0.1234", "br", Some(0)),
            ("br;q=1.5", "br", Some(0)),
            ("br;level=3", "br", Some(0)),
            ("*;q=0.3", "br", Some(300)),
            ("br;q=0, *", "br", Some(0)),
            ("gzip", "br", None),
            ("", "br", None),
        ] {
            assert_eq!(weight(accept, coding), expected, "{accept}");
        }
    }
}
