//! What balancing must hold beyond its single values: cookies that a browser takes, shares that are one, what counts
//! only for HTTP. It looks only at the config, like all of these.

use std::collections::HashSet;
use std::time::Duration;

use super::{Complaints, names_upstream};
use crate::config::problem::shown;
use crate::config::{
    Balance, Config, EjectErrors, EjectLatency, HashBy, Health, Probe, ProbeMethod, Route,
    SameSite, Secure, Sticky, Time, Upstream,
};

pub(super) fn upstream(upstream: &Upstream, complaints: &mut Complaints) {
    if let Balance::Hash { bounded_load: Some(load), .. } = upstream.balance
        && (load.is_nan() || load <= 1.0)
    {
        let message = format!("bounded-load must be above 1, not {load}");
        let advice = "1.25 lets a backend have a quarter more than the average";
        complaints.error(&["balance", "bounded-load"], message, advice);
    }
    if let Some(cookie) = &upstream.sticky {
        complaints.below(&["sticky"], |complaints| sticky(cookie, complaints));
    }
    if let Some(rules) = &upstream.eject_errors {
        complaints.below(&["eject-errors"], |complaints| errors(rules, complaints));
    }
    if let Some(rules) = &upstream.eject_latency {
        complaints.below(&["eject-latency"], |complaints| latency(rules, complaints));
    }
    let passive = [
        ("eject-errors", upstream.eject_errors.is_some()),
        ("eject-latency", upstream.eject_latency.is_some()),
    ];
    for (key, _) in passive.iter().filter(|(_, is_there)| *is_there) {
        if upstream.health == Health::Off {
            let message = format!("{key} does nothing with health = \"off\"");
            complaints.error(&[key], message, "remove one of them");
        }
    }
}

/// What counts for HTTP only, of an upstream that only TCP listeners use.
pub(super) fn without_http(upstream: &Upstream, complaints: &mut Complaints) {
    let keys = [
        ("sticky", upstream.sticky.is_some()),
        ("eject-errors", upstream.eject_errors.is_some()),
        ("eject-latency", upstream.eject_latency.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
        let message =
            format!("{key} counts only for HTTP, and no HTTP listener uses this upstream");
        complaints.warning(&[key], message, "remove it, or point an [http.NAME] listener here");
    }
}

/// A TCP listener knows no request.
pub(super) fn tcp_use(
    config: &Config,
    upstream: &str,
    (knows_packets, by_packet): (bool, bool),
    keys: &[&str],
    complaints: &mut Complaints,
) {
    let Some(Balance::Hash { by, .. }) = config.upstream.get(upstream).map(|found| &found.balance)
    else {
        return;
    };
    let has = match by {
        HashBy::Source | HashBy::Sni => true,
        HashBy::Packet(_) => by_packet,
        HashBy::FirstPacket(_) => knows_packets,
        _ => false,
    };
    if !has {
        let name = shown(upstream);
        let message = format!(
            "a TCP connection has no \"{}\" for the hash of \"{name}\"",
            shown(&by.to_string())
        );
        let advice =
            "its client's address is hashed instead; write hash = \"source\" if that is meant";
        complaints.warning(keys, message, advice);
    }
}

/// The same of an upstream that requests go to.
pub(super) fn http_use(
    config: &Config,
    upstream: &str,
    keys: &[&str],
    complaints: &mut Complaints,
) {
    let found = config.upstream.get(upstream).map(|found| &found.balance);
    if let Some(Balance::Hash { by: by @ (HashBy::Packet(_) | HashBy::FirstPacket(_)), .. }) = found
    {
        let (by, name) = (by.to_string(), shown(upstream));
        let message = format!("a request has no \"{by}\" for the hash of \"{name}\"");
        let advice =
            "its client's address is hashed instead; write hash = \"source\" if that is meant";
        complaints.warning(keys, message, advice);
    }
}

fn sticky(sticky: &Sticky, complaints: &mut Complaints) {
    let name = &sticky.cookie;
    if name.len() > 64 || !evenkeel_wire::is_name(name.as_bytes()) {
        let message = format!("\"{}\" is not the name of a cookie", shown(name));
        complaints.error(&["cookie"], message, "write letters, digits, \"-\" or \"_\", 64 at most");
    }
    if sticky.max_age.is_some_and(|age| age.0 < Duration::from_secs(1)) {
        let advice = "leave it out for a cookie that ends with the browser";
        complaints.error(&["max-age"], "max-age must be at least 1s", advice);
    }
    let needs_secure = name.starts_with("__Host-") || name.starts_with("__Secure-");
    if needs_secure && sticky.secure != Secure::Always {
        let message = format!("browsers take \"{}\" only with secure = \"always\"", shown(name));
        complaints.error(&["cookie"], message, "write that, or choose another name");
    }
    if sticky.same_site == SameSite::None && sticky.secure == Secure::Never {
        let message = "browsers take same-site = \"none\" only from secure cookies";
        complaints.error(&["same-site"], message, "write secure = \"auto\" or \"always\"");
    }
}

fn errors(rules: &EjectErrors, complaints: &mut Complaints) {
    complaints.within("share", rules.share.0.into(), 1..=100);
    complaints.within("answers", rules.answers, 1..=1_000_000);
    window(rules.within, complaints);
}

fn latency(rules: &EjectLatency, complaints: &mut Complaints) {
    if rules.times.is_nan() || rules.times <= 1.0 {
        let message = format!("times must be above 1, not {}", rules.times);
        complaints.error(&["times"], message, "3 is three times as slow as the others");
    }
    complaints.within("answers", rules.answers, 1..=1_000_000);
    window(rules.within, complaints);
}

fn window(within: Time, complaints: &mut Complaints) {
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&within.0) {
        let message = format!("within must be 1s to 1h, not {within}");
        complaints.error(&["within"], message, "10s is the default");
    }
}

/// The shares of a split, and its cookie.
pub(super) fn split(config: &Config, route: &Route, complaints: &mut Complaints) {
    let mut seen = HashSet::new();
    for (index, share) in route.split.iter().enumerate() {
        let keys = ["split", &index.to_string(), "upstream"];
        names_upstream(config, &keys, &share.upstream, complaints);
        if !seen.insert(&share.upstream) {
            let message = format!("\"{}\" stands here twice", shown(&share.upstream));
            complaints.error(&keys, message, "give one of them the larger weight");
        }
    }
    if !route.split.is_empty() && route.split.iter().all(|share| share.weight == 0) {
        complaints.error(&["split"], "every share has weight 0", "give one of them a weight");
    }
    let Some(cookie) = &route.split_cookie else { return };
    complaints.below(&["split-cookie"], |complaints| sticky(cookie, complaints));
    if route.split.is_empty() {
        let message = "split-cookie counts only with split";
        complaints.error(&["split-cookie"], message, "add split = [...], or remove it");
    }
    let shared = route.split.iter().filter_map(|share| config.upstream.get(&share.upstream));
    if shared
        .filter_map(|upstream| upstream.sticky.as_ref())
        .any(|other| other.cookie == cookie.cookie)
    {
        let message = format!(
            "\"{}\" is the sticky cookie of an upstream of this split too",
            shown(&cookie.cookie)
        );
        complaints.error(&["split-cookie"], message, "choose another name for one of them");
    }
}

/// What an HTTP check asks and expects, besides its path and host.
pub(super) fn probe(probe: &Probe, complaints: &mut Complaints) {
    let of_http = [
        ("method", probe.method != ProbeMethod::Get),
        ("headers", !probe.headers.is_empty()),
        ("body", probe.body.is_some()),
    ];
    for (key, _) in of_http.iter().filter(|(_, is_there)| *is_there && probe.http.is_none()) {
        let message = format!("{key} counts only for an http check");
        complaints.warning(&[key], message, "add http = \"/\", or remove it");
    }
    if probe.body.is_some() && probe.method == ProbeMethod::Head {
        let message = "the answer to HEAD has no body to look into";
        complaints.error(&["body"], message, "take another method, or remove it");
    }
    if probe.body.as_ref().is_some_and(|body| body.0.is_empty()) {
        complaints.error(&["body"], "every body contains nothing", "write some text, or remove it");
    }
    for (name, value) in &probe.headers {
        let keys = ["headers", name.as_str()];
        super::http::header_name(&keys, name, "a check", complaints);
        if !evenkeel_wire::is_value(value.as_bytes()) {
            let advice = "leave out control characters, and spaces at either end";
            complaints.error(&keys, "this is not the value of a header", advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Bytestring, Percent, SplitShare};

    fn said(look: impl FnOnce(&mut Complaints)) -> String {
        let mut complaints = Complaints::default();
        look(&mut complaints);
        let one = |complaint: &crate::config::Complaint| {
            format!("{}: {}", complaint.path.join("."), complaint.message)
        };
        complaints.list.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn app() -> Upstream {
        Upstream::new(vec![Backend::new("127.0.0.1:80".parse().unwrap())])
    }

    #[test]
    fn a_cookie_is_one_that_browsers_take() {
        let judged = |change: fn(&mut Sticky)| {
            let mut cookie = Sticky::new("evenkeel".to_owned());
            change(&mut cookie);
            said(|complaints| sticky(&cookie, complaints))
        };
        assert_eq!(judged(|_| ()), "");
        assert!(judged(|cookie| cookie.cookie = "a b".into()).contains("not the name of a cookie"));
        assert!(judged(|cookie| cookie.cookie.clear()).contains("not the name of a cookie"));
        assert!(judged(|cookie| cookie.max_age = Some(Time::seconds(0))).starts_with("max-age: "));
        assert!(judged(|cookie| cookie.cookie = "__Host-a".into()).contains("\"always\""));
        let unsafe_none = judged(|cookie| {
            cookie.same_site = SameSite::None;
            cookie.secure = Secure::Never;
        });
        assert!(unsafe_none.starts_with("same-site: "), "{unsafe_none}");
    }

    #[test]
    fn ejection_by_answers_has_sensible_limits_and_needs_passive_health() {
        let judged = |change: fn(&mut Upstream)| {
            let mut app = app();
            app.eject_errors = Some(EjectErrors::new(Percent(50)));
            app.eject_latency = Some(EjectLatency::new(3.0));
            change(&mut app);
            said(|complaints| upstream(&app, complaints))
        };
        assert_eq!(judged(|_| ()), "");
        let off = judged(|app| app.health = Health::Off);
        assert!(off.contains("eject-errors: ") && off.contains("eject-latency: "), "{off}");
        assert!(judged(|app| app.eject_latency = Some(EjectLatency::new(1.0))).contains("above 1"));
        assert!(
            judged(|app| app.eject_errors = Some(EjectErrors::new(Percent(0))))
                .contains("1 to 100")
        );
        let short = judged(|app| app.eject_errors.as_mut().unwrap().within = Time::seconds(0));
        assert!(short.contains("within must be 1s to 1h"), "{short}");
    }

    #[test]
    fn a_split_names_different_upstreams_of_which_one_has_weight() {
        let mut config = Config::default();
        config.upstream.insert("a".into(), app());
        config.upstream.insert("b".into(), app());
        let judged = |config: &Config, shares: &[(&str, u32)], cookie: Option<&str>| {
            let share = |&(name, weight): &(&str, u32)| SplitShare {
                weight,
                ..SplitShare::new(name.into())
            };
            let route = Route {
                split: shares.iter().map(share).collect(),
                split_cookie: cookie.map(|name| Sticky::new(name.into())),
                ..Route::default()
            };
            said(|complaints| split(config, &route, complaints))
        };
        assert_eq!(judged(&config, &[("a", 95), ("b", 5)], Some("side")), "");
        assert!(judged(&config, &[("a", 1), ("c", 1)], None).contains("no upstream \"c\""));
        assert!(judged(&config, &[("a", 1), ("a", 2)], None).contains("twice"));
        assert!(judged(&config, &[("a", 0), ("b", 0)], None).contains("weight 0"));
        assert!(judged(&config, &[], Some("side")).contains("only with split"));
        config.upstream["b"].sticky = Some(Sticky::new("side".into()));
        assert!(judged(&config, &[("a", 1), ("b", 1)], Some("side")).contains("sticky cookie"));
    }

    #[test]
    fn a_check_asks_what_can_be_asked_and_expects_what_can_come() {
        let judged = |change: fn(&mut Probe)| {
            let mut check = Probe { http: Some("/".into()), ..Probe::default() };
            change(&mut check);
            said(|complaints| probe(&check, complaints))
        };
        let ok = Some(Bytestring(b"ok".to_vec()));
        let check = Probe { body: ok.clone(), method: ProbeMethod::Head, ..Probe::default() };
        let both = said(|complaints| probe(&check, complaints));
        assert!(both.contains("HEAD has no body") && both.contains("only for an http"), "{both}");
        assert_eq!(judged(|check| drop(check.headers.insert("X-A".into(), "b".into()))), "");
        assert!(
            judged(|check| drop(check.headers.insert("Host".into(), "b".into())))
                .contains("by a check")
        );
        assert!(
            judged(|check| drop(check.headers.insert("A".into(), "\n".into()))).contains("value")
        );
        assert!(
            judged(|check| drop(check.headers.insert("a b".into(), "".into()))).contains("name")
        );
    }
}
