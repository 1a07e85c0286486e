//! What health verdicts promise: when a backend goes, for how long, and how it comes back.

use std::time::Duration;

use evenkeel_balance::health::{Cause, Change, Rules, State, Verdict, fail_open, may_eject};
use proptest::prelude::*;

fn rules() -> Rules {
    Rules {
        rise: 2,
        fall: 3,
        eject_after: 5,
        eject_time: secs(10),
        eject_time_max: secs(35),
        slow_start: Duration::ZERO,
        active: true,
        passive: true,
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Fails until it is ejected, and says until when.
fn eject(verdict: &mut Verdict, rules: &Rules, now: Duration) -> Duration {
    for _ in 1..rules.eject_after {
        assert_eq!(verdict.traffic(rules, now, false, true), None);
    }
    match verdict.traffic(rules, now, false, true) {
        Some(Change::Ejected { until, .. }) => until,
        other => panic!("not ejected but {other:?}"),
    }
}

/// Fails as many probes as it takes.
fn probes_fail(verdict: &mut Verdict, rules: &Rules, now: Duration) {
    for _ in 1..rules.fall {
        assert_eq!(verdict.probe(rules, now, false), None);
    }
    assert_eq!(verdict.probe(rules, now, false), Some(Change::WentDown));
}

#[test]
fn it_takes_fall_probes_in_a_row_to_go_down_and_rise_to_come_up() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    assert!(verdict.usable());
    let results = [
        (false, None),
        (false, None),
        (true, None),
        (false, None),
        (false, None),
        (false, Some(Change::WentDown)),
        (false, None),
        (true, None),
        (false, None),
        (true, None),
        (true, Some(Change::CameUp)),
        (true, None),
    ];
    for (ok, change) in results {
        assert_eq!(verdict.probe(&rules, secs(1), ok), change);
    }
    assert_eq!(verdict.state(), State::Healthy);
}

#[test]
fn failures_of_traffic_eject_only_when_in_a_row() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    for _ in 0..20 {
        for ok in [false, false, false, false, true] {
            assert_eq!(verdict.traffic(&rules, secs(1), ok, true), None);
        }
    }
    assert_eq!(eject(&mut verdict, &rules, secs(2)), secs(12));
    assert_eq!(verdict.state(), State::Ejected { until: secs(12) });
    assert!(!verdict.usable());
}

#[test]
fn an_ejection_ends_by_itself_and_each_in_a_row_lasts_longer_up_to_the_cap() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    let mut now = secs(1);
    for lasts in [10, 20, 30, 35, 35] {
        let until = eject(&mut verdict, &rules, now);
        assert_eq!(until, now + secs(lasts));
        assert_eq!(verdict.next_event(&rules, now), Some(until));
        assert_eq!(verdict.tick(&rules, until - Duration::from_nanos(1)), None);
        assert_eq!(verdict.tick(&rules, until), Some(Change::Returned));
        assert_eq!(verdict.next_event(&rules, until), None);
        now = until + secs(1);
    }
}

#[test]
fn one_ejection_is_forgiven_for_every_eject_time_of_good_service() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    let first = eject(&mut verdict, &rules, secs(1));
    verdict.tick(&rules, first);
    let second = eject(&mut verdict, &rules, first);
    verdict.tick(&rules, second);
    // Two in a row; after 10 good seconds one is left, and the next makes two again.
    let now = second + secs(10);
    let third = eject(&mut verdict, &rules, now);
    assert_eq!(third, now + secs(20));
    verdict.tick(&rules, third);
    let now = third + secs(1_000);
    assert_eq!(eject(&mut verdict, &rules, now), now + secs(10));
}

#[test]
fn good_probes_do_not_end_an_ejection() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    let until = eject(&mut verdict, &rules, secs(1));
    for _ in 0..10 {
        assert_eq!(verdict.probe(&rules, secs(2), true), None);
    }
    assert_eq!(verdict.state(), State::Ejected { until });
}

#[test]
fn bad_probes_make_an_ejected_backend_unhealthy_and_it_stays_so_beyond_the_ejection() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    let until = eject(&mut verdict, &rules, secs(1));
    probes_fail(&mut verdict, &rules, secs(2));
    assert_eq!(verdict.tick(&rules, until), None);
    assert_eq!(verdict.state(), State::Unhealthy);
    verdict.probe(&rules, until, true);
    assert_eq!(verdict.probe(&rules, until, true), Some(Change::CameUp));
}

#[test]
fn a_backend_healthy_again_during_its_ejection_returns_when_that_is_over() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    let until = eject(&mut verdict, &rules, secs(1));
    probes_fail(&mut verdict, &rules, secs(2));
    (0..2).for_each(|_| assert_eq!(verdict.probe(&rules, secs(3), true), None));
    assert_eq!(verdict.state(), State::Ejected { until });
    assert_eq!(verdict.tick(&rules, until), Some(Change::Returned));
}

#[test]
fn the_last_usable_one_is_ejected_only_once_another_is_back() {
    let (rules, mut verdict) = (rules(), Verdict::new(secs(0)));
    for _ in 0..50 {
        assert_eq!(verdict.traffic(&rules, secs(1), false, false), None);
    }
    let change = verdict.traffic(&rules, secs(2), false, true);
    assert_eq!(change, Some(Change::Ejected { until: secs(12), cause: Cause::InARow(51) }));
}

#[test]
fn what_is_switched_off_does_not_count() {
    let off = Rules { active: false, passive: false, ..rules() };
    let mut verdict = Verdict::new(secs(0));
    for _ in 0..50 {
        assert_eq!(verdict.probe(&off, secs(1), false), None);
        assert_eq!(verdict.traffic(&off, secs(1), false, true), None);
    }
    assert!(verdict.usable());
}

#[test]
fn a_backend_that_was_out_is_back_when_the_checks_are_switched_off() {
    let off = Rules { active: false, passive: false, ..rules() };
    let mut verdict = Verdict::new(secs(0));
    eject(&mut verdict, &rules(), secs(1));
    assert_eq!(verdict.tick(&off, secs(2)), Some(Change::Returned));
    probes_fail(&mut verdict, &rules(), secs(3));
    assert_eq!(verdict.tick(&off, secs(4)), Some(Change::CameUp));
    assert!(verdict.usable());
}

#[test]
fn a_slow_start_grows_evenly_from_the_return() {
    let rules = Rules { slow_start: secs(20), ..rules() };
    let mut verdict = Verdict::new(secs(0));
    assert_eq!(verdict.weight_at(&rules, secs(0), 300), 300);
    let until = eject(&mut verdict, &rules, secs(1));
    verdict.tick(&rules, until);
    let weight_after = |passed| verdict.weight_at(&rules, until + secs(passed), 300);
    assert_eq!([0, 5, 10, 20, 99].map(weight_after), [1, 75, 150, 300, 300]);
    assert_eq!(verdict.weight_at(&rules, until, 0), 0);

    let mut now = until;
    let mut events = 0;
    while let Some(next) = verdict.next_event(&rules, now) {
        assert_eq!(next, now + secs(2));
        now = next;
        events += 1;
    }
    assert_eq!((events, now), (10, until + secs(20)));
}

#[test]
fn a_backend_that_joins_begins_slowly_and_the_first_ones_do_not() {
    let rules = Rules { slow_start: secs(10), ..rules() };
    assert_eq!(Verdict::joining(secs(5)).weight_at(&rules, secs(10), 100), 50);
    assert_eq!(Verdict::new(secs(5)).weight_at(&rules, secs(10), 100), 100);
}

#[test]
fn the_last_usable_backend_is_never_ejected() {
    assert!(!may_eject(5, 0, 1, 100));
    assert!(!may_eject(1, 0, 1, 100));
    assert!(may_eject(2, 0, 2, 10), "one may go, whatever the percentage");
    assert!(!may_eject(2, 0, 2, 0));
    assert!(may_eject(10, 4, 6, 50));
    assert!(!may_eject(10, 5, 5, 50));
}

#[test]
fn failing_open_begins_below_the_threshold() {
    assert!(!fail_open(10, 0, 0), "0 is off");
    assert!(fail_open(10, 4, 50));
    assert!(!fail_open(10, 5, 50));
    assert!(!fail_open(0, 0, 50));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_changes_told_add_up_to_the_state(
        events in proptest::collection::vec((0u8..5, any::<bool>(), 0u64..9_000), 0..200),
        rise in 0u32..3,
        fall in 0u32..3,
        slow_start in 0u64..20,
    ) {
        let rules = Rules { rise, fall, eject_after: 2, slow_start: secs(slow_start), ..rules() };
        let mut verdict = Verdict::new(secs(0));
        let mut now = Duration::ZERO;
        let mut usable = true;
        for (event, ok, millis) in events {
            now += Duration::from_millis(millis);
            let change = match event {
                0 | 1 => verdict.probe(&rules, now, ok),
                2 | 3 => verdict.traffic(&rules, now, ok, true),
                _ => verdict.tick(&rules, now),
            };
            usable = match change {
                Some(Change::WentDown | Change::Ejected { .. }) => false,
                Some(Change::CameUp | Change::Returned) => true,
                None => usable,
            };
            prop_assert_eq!(usable, verdict.usable());
            prop_assert_eq!(usable, verdict.state() == State::Healthy);
            prop_assert!((1..=100).contains(&verdict.weight_at(&rules, now, 100)));
            if let (true, Some(next)) = (usable, verdict.next_event(&rules, now)) {
                prop_assert!(next > now);
            }
        }
    }
}
