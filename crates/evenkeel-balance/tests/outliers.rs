//! What is promised about backends that answer wrongly or late: the counts are those of the last seconds, and only
//! who stands out is found.

use std::time::Duration;

use evenkeel_balance::health::{Cause, Change, Rules, State, Verdict};
use evenkeel_balance::latency::{Latencies, TooSlow};
use evenkeel_balance::window::{Counted, TooManyErrors, Window};
use proptest::prelude::*;

const WITHIN: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn counted(all: u32, marked: u32) -> Counted {
    Counted { all, marked }
}

#[test]
fn errors_are_too_many_from_the_share_on_and_not_before_there_are_enough_answers() {
    let rules = TooManyErrors { percent: 50, answers: 20 };
    assert!(!rules.are(counted(19, 19)));
    assert!(rules.are(counted(20, 10)));
    assert!(!rules.are(counted(20, 9)));
    assert!(rules.are(counted(u32::MAX, u32::MAX)));
    // No errors are never too many, whatever the rules say.
    assert!(!TooManyErrors { percent: 0, answers: 0 }.are(counted(5, 0)));
}

#[test]
fn a_full_step_stops_counting_instead_of_running_over() {
    let window = Window::new(WITHIN);
    (0..1_200_000).for_each(|_| window.note(at(1), true));
    let counted = window.counted(at(1));
    assert_eq!((counted.all, counted.marked), ((1 << 20) - 1, (1 << 20) - 1));
}

#[test]
fn a_window_that_was_cleared_knows_nothing() {
    let (window, latencies) = (Window::new(WITHIN), Latencies::new(WITHIN));
    window.note(at(20_000), true);
    latencies.note(at(20_000), at(5));
    window.clear();
    latencies.clear();
    assert_eq!(window.counted(at(20_000)), counted(0, 0));
    assert_eq!(latencies.median(at(20_000), 1), None);
    latencies.note(at(20_000), at(5));
    assert!(latencies.median(at(20_000), 1).is_some());
}

#[test]
fn one_answer_that_takes_half_a_minute_does_not_move_the_median() {
    let latencies = Latencies::new(WITHIN);
    (0..40).for_each(|number| latencies.note(at(number), at(10)));
    latencies.note(at(50), Duration::from_secs(30));
    let median = latencies.median(at(50), 20).unwrap();
    assert!((at(10)..at(12)).contains(&median), "{median:?}");
    assert_eq!(latencies.median(at(50), 42), None, "fewer answers than asked for");
    assert_eq!(latencies.median(at(60_000), 1), None, "too long ago");
}

#[test]
fn only_a_backend_much_slower_than_the_others_is_too_slow() {
    let rules = TooSlow { times: 3.0, at_least: at(20) };
    let medians =
        |list: &[u64]| list.iter().map(|ms| (*ms > 0).then(|| at(*ms))).collect::<Vec<_>>();
    assert_eq!(rules.worst(&medians(&[10, 100, 12])), Some((1, at(10))));
    assert_eq!(rules.worst(&medians(&[10, 100])), Some((1, at(10))));
    assert_eq!(rules.worst(&medians(&[40, 100, 50])), None, "not by so much");
    assert_eq!(rules.worst(&medians(&[1, 15, 1])), None, "fast enough");
    assert_eq!(rules.worst(&medians(&[100, 110, 105])), None, "all are slow");
    assert_eq!(rules.worst(&medians(&[0, 100, 0])), None, "nobody to be held against");
    assert_eq!(rules.worst(&medians(&[])), None);
    // Of three slow ones among seven, one is found at a time.
    assert_eq!(rules.worst(&medians(&[10, 90, 10, 100, 10, 95, 10])), Some((3, at(10))));
}

#[test]
fn an_ejection_for_errors_lasts_and_grows_like_any_other() {
    let rules = Rules {
        rise: 1,
        fall: 1,
        eject_after: 5,
        eject_time: at(10_000),
        eject_time_max: at(15_000),
        slow_start: Duration::ZERO,
        active: true,
        passive: true,
    };
    let cause = Cause::Errors { failed: 12, answers: 20 };
    let mut verdict = Verdict::new(at(0));
    assert_eq!(verdict.eject(&rules, at(0), cause, false), None, "the last usable one");
    let change = verdict.eject(&rules, at(0), cause, true);
    assert_eq!(change, Some(Change::Ejected { until: at(10_000), cause }));
    assert_eq!(verdict.eject(&rules, at(1), cause, true), None, "it is out already");
    assert_eq!(verdict.tick(&rules, at(10_000)), Some(Change::Returned));
    let change = verdict.eject(&rules, at(10_000), cause, true);
    assert_eq!(change, Some(Change::Ejected { until: at(25_000), cause }));
    assert_eq!(verdict.state(), State::Ejected { until: at(25_000) });
    let off = Rules { passive: false, ..rules };
    assert_eq!(Verdict::new(at(0)).eject(&off, at(0), cause, true), None);
}

#[test]
fn a_cause_reads_as_a_sentence() {
    assert_eq!(Cause::InARow(5).to_string(), "it failed 5 times in a row");
    let errors = Cause::Errors { failed: 12, answers: 20 };
    assert_eq!(errors.to_string(), "12 of 20 answers were 5xx");
    let slow = Cause::Slow { median: at(300), others: at(20) };
    assert_eq!(slow.to_string(), "its median answer took 300 ms, that of the others 20 ms");
}

proptest! {
    #[test]
    fn a_window_counts_what_came_within_its_time(
        steps in proptest::collection::vec((0u64..1_500, any::<bool>()), 1..100),
        within in 1u64..20_000,
        later in 0u64..30_000,
    ) {
        let window = Window::new(at(within));
        let (mut now, mut all) = (0, Vec::new());
        for (passed, marked) in steps {
            now += passed;
            window.note(at(now), marked);
            all.push((now, marked));
        }
        now += later;
        let counted = window.counted(at(now));
        // The step that is running is part of a tenth, so up to a tenth of the time is forgotten early.
        let since = |tenths: u64| {
            let young = all.iter().filter(|(moment, _)| (now - moment) * 10 < within * tenths);
            young.fold((0, 0), |(all, marked), one| (all + 1, marked + u32::from(one.1)))
        };
        let (least, most) = (since(9), since(10));
        prop_assert!((least.0..=most.0).contains(&counted.all), "{:?} {:?}..{:?}", counted, least, most);
        prop_assert!((least.1..=most.1).contains(&counted.marked));
    }

    #[test]
    fn a_median_is_right_to_a_fifth(
        mut millis in proptest::collection::vec(1u64..100_000, 1..200),
    ) {
        let latencies = Latencies::new(WITHIN);
        millis.iter().for_each(|took| latencies.note(at(7), at(*took)));
        let median = latencies.median(at(8), 1).unwrap().as_secs_f64() * 1000.0;
        millis.sort_unstable();
        let exact = millis[(millis.len() - 1) / 2] as f64;
        prop_assert!(median > exact * 0.999 && median < exact * 1.2, "{median} for {exact}");
    }
}
