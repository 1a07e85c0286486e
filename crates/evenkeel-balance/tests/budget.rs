//! What a retry budget promises: never more than the share of the requests and the few of any case, and not less
//! for somebody who asks alone.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_balance::budget::{Budget, Rules};
use proptest::prelude::*;

fn rules(percent: u8, per_second_min: u32) -> Rules {
    Rules { percent, per_second_min, within: Duration::from_secs(10) }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_fifth_of_the_requests_may_be_retried_and_not_one_more() {
    let budget = Budget::new(rules(20, 0));
    assert!(!budget.take(at(0)), "nothing was asked yet");
    (0..100).for_each(|number| budget.note_request(at(number * 50)));
    let taken = (0..100).filter(|_| budget.take(at(5_000))).count();
    assert_eq!(taken, 20);
    // What is refused is not counted: as soon as there are five more, one more may be.
    (0..4).for_each(|_| budget.note_request(at(5_000)));
    assert!(!budget.take(at(5_000)));
    budget.note_request(at(5_000));
    assert!(budget.take(at(5_000)));
}

#[test]
fn a_few_retries_a_second_are_allowed_however_little_is_asked() {
    let budget = Budget::new(rules(20, 3));
    assert_eq!((0..100).filter(|_| budget.take(at(0))).count(), 30);
    assert!(!budget.take(at(9_000)));
    assert_eq!((0..100).filter(|_| budget.take(at(10_000))).count(), 30);
}

#[test]
fn threads_that_ask_at_once_never_get_more_than_there_is() {
    let budget = Budget::new(rules(10, 0));
    (0..1_000).for_each(|_| budget.note_request(at(1)));
    let taken = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mine = (0..200).filter(|_| budget.take(at(2))).count();
                taken.fetch_add(mine as u32, Relaxed);
            });
        }
    });
    assert!((1..=100).contains(&taken.load(Relaxed)), "{taken:?}");
}

proptest! {
    #[test]
    fn no_ten_seconds_have_more_retries_than_their_share(
        percent in 0u8..=100,
        least in 0u32..4,
        steps in proptest::collection::vec((0u64..700, 0u32..8, 0u32..8), 1..200),
    ) {
        let budget = Budget::new(rules(percent, least));
        let (mut now, mut requests, mut retries) = (0, Vec::new(), Vec::new());
        for (passed, asked, again) in steps {
            now += passed;
            (0..asked).for_each(|_| budget.note_request(at(now)));
            requests.extend((0..asked).map(|_| now));
            for _ in 0..again {
                let within = |since: u64, list: &[u64]| {
                    list.iter().filter(|moment| **moment + since > now).count() as u64
                };
                let most = |count: u64| count * u64::from(percent) / 100 + u64::from(least) * 10;
                let took = budget.take(at(now));
                // What is counted spans nine to ten tenths of the time.
                if took {
                    prop_assert!(within(9_000, &retries) < most(within(10_000, &requests)));
                    retries.push(now);
                } else {
                    prop_assert!(within(10_000, &retries) >= most(within(9_000, &requests)));
                }
            }
        }
    }
}
