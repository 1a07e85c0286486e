//! Promises about the roles and verdicts of backends that are hard to reach from outside: names that swap
//! addresses, backends that leave and return, states that change without an event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::{Algorithm, health as verdict};

use super::{Affinity, BackendAddress, Entry, EntryPlace, KeyPart, OutlierRules, Rules, Upstream};
use crate::socket::SocketOptions;

pub(super) fn named(host: &str, backup: bool) -> Entry {
    let place = EntryPlace::Named { host: host.into(), port: 5432 };
    Entry { place, weight: 1, backup, connections_max: None }
}

pub(super) fn upstream(entries: Vec<Entry>) -> Arc<Upstream> {
    let rules = Rules {
        response_timeout: Duration::from_secs(60),
        keep_alive: None,
        h2: None,
        send_proxy: None,
        transparent: false,
        name: "db".into(),
        entries,
        balance: Algorithm::RoundRobin,
        key_part: KeyPart::Source,
        sticky: None,
        outliers: OutlierRules::default(),
        connect_timeout: Duration::from_secs(1),
        retries: 1,
        queue_max: 10,
        queue_timeout: Duration::from_secs(1),
        verdict: verdict::Rules {
            rise: 1,
            fall: 1,
            eject_after: 1,
            eject_time: Duration::from_millis(20),
            eject_time_max: Duration::from_millis(20),
            slow_start: Duration::ZERO,
            active: true,
            passive: true,
        },
        eject_max_percent: 100,
        fail_open_percent: 0,
        sources: Vec::new(),
        options: SocketOptions::default(),
    };
    Upstream::new(rules, None, None).unwrap()
}

pub(super) fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 5432))
}

pub(super) fn resolve(upstream: &Arc<Upstream>, answers: &[&[u8]]) {
    for (entry, lasts) in answers.iter().enumerate() {
        upstream.set_addresses(entry, lasts.iter().copied().map(address).collect());
    }
    upstream.line_up_anew();
}

pub(super) fn picked(upstream: &Arc<Upstream>) -> String {
    upstream.pick(Affinity::default(), &[]).unwrap().backend.name.to_string()
}

#[test]
fn names_that_swap_addresses_swap_the_roles_of_primary_and_standby() {
    let upstream = upstream(vec![named("primary.test", false), named("standby.test", true)]);
    resolve(&upstream, &[&[1], &[2]]);
    assert_eq!(picked(&upstream), "192.0.2.1:5432");
    resolve(&upstream, &[&[2], &[1]]);
    assert_eq!(picked(&upstream), "192.0.2.2:5432");
    assert_eq!(picked(&upstream), "192.0.2.2:5432");
}

#[test]
fn a_backend_that_leaves_and_returns_still_knows_its_open_connections() {
    let upstream = upstream(vec![named("app.test", false)]);
    resolve(&upstream, &[&[1]]);
    let place = upstream.pick(Affinity::default(), &[]).unwrap();
    resolve(&upstream, &[&[2]]);
    resolve(&upstream, &[&[1]]);
    assert_eq!(upstream.backends()[0].open(), 1);
    drop(place);
    assert_eq!(upstream.backends()[0].open(), 0);
}

#[test]
fn counts_of_states_survive_a_check_that_succeeds_while_an_ejection_lasts() {
    let upstream = upstream(vec![named("app.test", false)]);
    resolve(&upstream, &[&[1, 2]]);
    let backend = Arc::clone(&upstream.backends()[0]);
    upstream.note_traffic(&backend, false);
    upstream.note_probe(&backend, false, "refused");
    upstream.note_probe(&backend, true, "");
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !backend.verdict().usable() {
        assert!(std::time::Instant::now() < deadline, "the ejection lasts 20 ms");
        upstream.let_time_pass();
    }
    let roster = upstream.roster();
    assert_eq!((roster.usable, roster.ejected), (2, 0));
}

#[test]
fn a_backend_that_was_slow_once_is_forgiven_while_nothing_is_heard_of_it() {
    let upstream = upstream(vec![named("app.test", false)]);
    resolve(&upstream, &[&[1]]);
    let backend = Arc::clone(&upstream.backends()[0]);
    let start = Duration::from_secs(1);
    backend.answered(start, Duration::from_secs(2));
    assert!((backend.latency(start) - 2.0).abs() < 1e-9);
    assert!(backend.latency(start + Duration::from_secs(60)) < 0.01);
}

#[test]
fn a_backend_is_called_by_its_name_in_the_config_or_by_its_address() {
    let db = upstream(vec![named("db-1.internal", false)]);
    resolve(&db, &[&[1]]);
    assert_eq!(
        &*db.pick(Affinity::default(), &[]).unwrap().backend.authority,
        "db-1.internal:5432"
    );
    let at = |address| Entry { place: EntryPlace::At(address), ..named("", false) };
    let authority = |entry| {
        upstream(vec![entry]).pick(Affinity::default(), &[]).unwrap().backend.authority.clone()
    };
    assert_eq!(&*authority(at(BackendAddress::Ip("[::1]:80".parse().unwrap()))), "[::1]:80");
    assert_eq!(&*authority(at(BackendAddress::Unix("/run/x".into()))), "localhost");
}

fn at(last: u8, weight: u32) -> Entry {
    let place = EntryPlace::At(BackendAddress::Ip(address(last)));
    Entry { place, weight, backup: false, connections_max: None }
}

#[test]
fn what_stays_in_a_new_config_keeps_its_verdict_its_counts_and_its_kept_connections() {
    let old = upstream(vec![at(1, 1), at(2, 1), named("app.test", false)]);
    old.set_addresses(2, vec![address(3)]);
    old.line_up_anew();
    let place = old.pick(Affinity::default(), &[]).unwrap();
    old.note_probe(&old.backends()[1], false, "refused");
    let entries = vec![at(2, 5), at(1, 1), at(4, 1), named("app.test", false)];
    let new = old.succeed(Rules { entries, ..old.rules.clone() }, None).unwrap();
    new.take_over();
    let [two, one, four, three] = &new.backends()[..] else { panic!("four") };
    assert_eq!((one.open(), &*one.name), (1, "192.0.2.1:5432"));
    assert!(!two.verdict().usable() && four.verdict().usable());
    assert_eq!(&*three.name, "192.0.2.3:5432", "the name need not be looked up again");
    assert!(Arc::ptr_eq(one.channel(), place.backend.channel()));
    drop(place);
    assert_eq!(one.open(), 0);
    // News of a connection that began before is judged by the rules of now, and picks go on where they were.
    old.note_probe(&old.backends()[1], true, "");
    assert!(two.verdict().usable() && new.roster().usable == 4);
    assert!(Arc::ptr_eq(&old.newest(), &new) && Arc::ptr_eq(&new.newest(), &new));
}

#[test]
fn a_backend_that_is_reached_in_another_way_keeps_its_verdict_alone() {
    let old = upstream(vec![at(1, 1)]);
    let rules = Rules { transparent: true, ..old.rules.clone() };
    let new = old.succeed(rules, None).unwrap();
    let [before, after] = [&old.backends()[0], &new.backends()[0]];
    assert!(before.is(after) && !Arc::ptr_eq(before.channel(), after.channel()));
}

#[tokio::test(flavor = "current_thread")]
async fn who_waits_for_a_place_may_get_it_by_the_new_config() {
    let full = |most| Entry { connections_max: Some(most), ..at(1, 1) };
    let old = upstream(vec![full(1)]);
    let _place = old.place(Affinity::default(), &[], &mut None).await.unwrap();
    let waiting = {
        let old = Arc::clone(&old);
        tokio::spawn(
            async move { old.place(Affinity::default(), &[], &mut None).await.map(|_| ()) },
        )
    };
    tokio::task::yield_now().await;
    let new = old.succeed(Rules { entries: vec![full(2)], ..old.rules.clone() }, None).unwrap();
    new.take_over();
    let looked_after = tokio::spawn(Arc::clone(&new).keep_up());
    assert_eq!(waiting.await.unwrap(), Ok(()));
    looked_after.abort();
}
