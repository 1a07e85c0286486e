//! What the keys of balancing requests promise: each is read, in its short form too, and what counts only for HTTP is
//! named where only TCP would meet it.

use std::path::PathBuf;

use super::http::{ALL, one_says};
use super::*;

#[test]
fn every_key_of_balancing_requests_is_read() {
    let config = Config::parse_with(ALL, &environment).unwrap();
    let (app, other) = (&config.upstream["app"], &config.upstream["other"]);
    let by = HashBy::Header("X-User".to_owned());
    assert_eq!(app.balance, Balance::Hash { by, on: HashOn::Ring, bounded_load: None });
    let sticky = app.sticky.as_ref().unwrap();
    assert_eq!(sticky.key_file, Some(PathBuf::from("keys/sticky.key")));
    assert_eq!((sticky.same_site, sticky.secure), (SameSite::None, Secure::Always));
    assert_eq!(other.sticky, Some(Sticky::new("other".to_owned())));
    let errors = EjectErrors { share: Percent(40), answers: 10, within: Time::seconds(5) };
    assert_eq!(app.eject_errors, Some(errors));
    assert_eq!(other.eject_errors, Some(EjectErrors::new(Percent(50))));
    let Health::Active(check) = &app.health else { panic!("{:?}", app.health) };
    assert_eq!(
        (check.method, &check.body),
        (ProbeMethod::Options, &Some(Bytestring(b"ok".to_vec())))
    );
    assert_eq!(check.headers["X-Check"], "1");
}

#[test]
fn a_tcp_listener_is_warned_of_what_only_requests_have() {
    let said = |upstream: &str, listener: &str| {
        let text = format!(
            "[upstream.app]\nbackends = \"a:1\"\n{upstream}\n[tcp.x]\nlisten = \":1\"\n\
             upstream = \"app\"\n{listener}"
        );
        let config = Config::parse_with(&text, &environment).unwrap();
        verify(&config)
            .iter()
            .map(|one| format!("{} {}", one.path.join("."), one.message))
            .collect::<Vec<_>>()
    };
    let web = "[http.web]\nlisten = \":80\"\nupstream = \"app\"";
    let hash = "balance = { hash = \"path\" }";
    one_says(&said(hash, ""), "a TCP connection has no \"path\" for the hash of \"app\"");
    one_says(&said(hash, web), "a TCP connection has no \"path\" for the hash of \"app\"");
    assert_eq!(said("balance = \"hash\"", ""), [""; 0]);
    let (hash, by_packet) =
        ("balance = { hash = \"packet:0:4\" }", "packet = \"lines\"\nbalance-per = \"packet\"");
    assert_eq!(said(hash, by_packet), [""; 0]);
    one_says(&said(hash, ""), "a TCP connection has no \"packet:0:4\" for the hash of \"app\"");
    let both = format!("{by_packet}\n{web}");
    one_says(&said(hash, &both), "a request has no \"packet:0:4\" for the hash of \"app\"");
    for key in ["sticky = \"s\"", "eject-errors = 50", "eject-latency = 3"] {
        one_says(&said(key, ""), "counts only for HTTP, and no HTTP listener uses this upstream");
        assert_eq!(said(key, web), [""; 0]);
    }
}
