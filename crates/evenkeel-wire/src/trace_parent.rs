//! The header `traceparent`, by which spans of one request find together (W3C Trace Context, level 1).

use std::fmt;

/// A span of a trace, as one tells the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    /// Whether whoever sent it leaves a span too.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the value of the header; `None` where it breaks the rules. Versions after this one may add parts at the end.
    pub fn read(value: &[u8]) -> Option<TraceParent> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        let is_known = version < 0xff && (version > 0 || parts.next().is_none());
        let span = u64::try_from(span).ok()?;
        let good = is_known && trace != 0 && span != 0;
        good.then_some(TraceParent { trace, span, sampled: flags & 1 == 1 })
    }
}

/// As version 00 writes it.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// So many digits, of which letters are small.
fn hex(text: &str, length: usize) -> Option<u128> {
    let fits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let good = text.len() == length && text.bytes().all(fits);
    good.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_the_standard_says() {
        let read = TraceParent::read(GOOD.as_bytes()).unwrap();
        assert_eq!(read.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((read.span, read.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(read.to_string(), GOOD);
        assert!(!TraceParent::read(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        let later = format!("cc{}-what", &GOOD[2..]);
        assert_eq!(TraceParent::read(later.as_bytes()), Some(read));
    }

    #[test]
    fn what_breaks_the_rules_is_none() {
        let bad = [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[1..],
            &format!("{GOOD}-00"),
            &format!("ff{}", &GOOD[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for header in bad {
            assert_eq!(TraceParent::read(header.as_bytes()), None, "{header}");
        }
        assert_eq!(TraceParent::read(&[0xff; 55]), None);
    }
}
