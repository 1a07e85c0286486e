//! Which trace a request belongs to, as the header `traceparent` says it (W3C Trace Context, level 1). Numbers are drawn by each
//! thread for itself: they have to differ, and need not be a secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// The trace and the span of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: u128,
    /// The span that this one belongs to.
    pub(crate) parent: Option<u64>,
    pub(crate) span: u64,
}

impl Context {
    /// A trace of its own.
    pub(crate) fn root() -> Context {
        let trace = u128::from(draw()) << 64 | u128::from(draw());
        Context { trace: trace.max(1), parent: None, span: draw().max(1) }
    }

    /// The next span below this one.
    pub(crate) fn child(self) -> Context {
        Context { parent: Some(self.span), span: draw().max(1), ..self }
    }

    /// Reads a header, and whether it is sampled. Later versions may add parts at the end.
    pub(crate) fn parse(header: &[u8]) -> Option<(Context, bool)> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            let fits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == length && text.bytes().all(fits)
        };
        let fits = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !fits || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some((Context { trace, parent: None, span }, flags & 1 == 1))
    }

    /// The header for whoever is asked next.
    pub(crate) fn header(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// Whether a share in percent has fallen on this request.
pub(super) fn is_drawn(percent: u8) -> bool {
    draw() % 100 < u64::from(percent)
}

/// A number that is most likely new (SplitMix64: Steele, Lea, Flood 2014).
fn draw() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_the_standard_says() {
        let (context, sampled) = Context::parse(GOOD.as_bytes()).unwrap();
        assert!(sampled);
        assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.header(), GOOD);
        assert!(!Context::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().1);
        let later = format!("cc{}-what", &GOOD[2..]);
        assert!(Context::parse(later.as_bytes()).is_some());
        let child = context.child();
        assert_eq!((child.trace, child.parent), (context.trace, Some(context.span)));
        assert_ne!(child.span, context.span);
    }

    #[test]
    fn what_is_no_header_is_none() {
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
        ];
        for header in bad {
            assert_eq!(Context::parse(header.as_bytes()), None, "{header}");
        }
        assert_eq!(Context::parse(&[0xff; 55]), None);
    }

    #[test]
    fn a_share_falls_on_about_as_many() {
        let drawn = |percent| (0..20_000).filter(|_| is_drawn(percent)).count();
        assert_eq!((drawn(0), drawn(100)), (0, 20_000));
        let some = drawn(10);
        assert!((1_500..2_500).contains(&some), "{some}");
    }
}
