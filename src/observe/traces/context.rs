//! Which trace a request belongs to, and which span of it is ours. Numbers are drawn by each thread for itself: they have to differ,
//! and need not be a secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use evenkeel_wire::TraceParent;

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
    pub(super) fn root() -> Context {
        let trace = u128::from(draw()) << 64 | u128::from(draw());
        Context { trace: trace.max(1), parent: None, span: draw().max(1) }
    }

    /// The next span below another one.
    pub(super) fn below(parent: TraceParent) -> Context {
        Context { trace: parent.trace, parent: Some(parent.span), span: draw().max(1) }
    }

    /// What whoever is asked next is told.
    pub(crate) fn told(self) -> TraceParent {
        TraceParent { trace: self.trace, span: self.span, sampled: true }
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
    use std::collections::HashSet;

    #[test]
    fn a_share_falls_on_about_as_many() {
        let drawn = |percent| (0..20_000).filter(|_| is_drawn(percent)).count();
        assert_eq!((drawn(0), drawn(100)), (0, 20_000));
        let some = drawn(10);
        assert!((1_500..2_500).contains(&some), "{some}");
    }

    #[test]
    fn no_two_traces_and_no_two_spans_are_the_same() {
        let all: Vec<_> = (0..10_000).map(|_| Context::root()).collect();
        let traces: HashSet<_> = all.iter().map(|context| context.trace).collect();
        let below = all.iter().map(|context| Context::below(context.told()).span);
        let spans: HashSet<_> = all.iter().map(|context| context.span).chain(below).collect();
        assert_eq!((traces.len(), spans.len()), (10_000, 20_000));
    }
}
