//! What a preferred member is promised: it comes first wherever it can take it, and else it is as if nobody were preferred.

use evenkeel_balance::{Ask, Outcome, Table};
use proptest::prelude::*;

use crate::group::{Group, any, every_algorithm, members};

#[test]
fn a_preferred_member_with_room_is_picked_by_every_algorithm() {
    for algorithm in every_algorithm() {
        let table = Table::build(&algorithm, &members(&[1, 5, 1]));
        let mut group = Group::with_open(&[0, 0, 90]);
        let ask = Ask { preferred: Some(2), ..Ask::default() };
        assert_eq!(table.pick(&group, &ask), Some(2), "{algorithm:?}");
        let (_, trace) = table.explain(&group, &ask);
        assert_eq!(trace.to_string(), "2: chosen", "{algorithm:?}");
        group.full[2] = true;
        assert_ne!(table.pick(&group, &ask), Some(2), "{algorithm:?}");
        let (_, trace) = table.explain(&group, &ask);
        assert_eq!((trace.steps[0].index, trace.steps[0].outcome), (2, Outcome::Full));
    }
}

proptest! {
    #[test]
    fn a_preference_that_cannot_be_met_changes_nothing(
        (weights, group) in any(),
        preferred in 0u32..12,
        tried in proptest::collection::vec(0u32..10, 0..4),
        number: u64,
    ) {
        for algorithm in every_algorithm() {
            let table = Table::build(&algorithm, &members(&weights));
            let ask = Ask { key: number, tried: &tried, ticket: number, seed: number, preferred: None };
            let wish = Ask { preferred: Some(preferred), ..ask };
            let expected = match table.takes(&group, &ask, preferred) {
                true => Some(preferred),
                false => table.pick(&group, &ask),
            };
            prop_assert_eq!(table.pick(&group, &wish), expected);
            prop_assert_eq!(table.explain(&group, &wish).0, expected);
            let is_there = weights.get(preferred as usize).is_some_and(|weight| *weight > 0);
            prop_assert!(!table.takes(&group, &ask, preferred) || is_there);
        }
    }
}
