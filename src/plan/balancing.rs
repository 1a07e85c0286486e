//! What the config says of hashing, HTTP/2 with backends, cookies, splits, ejections and HTTP checks, compiled. Like all of the plan, it
//! cannot fail: everything that can be wrong has been said before.

use std::ops::RangeInclusive;
use std::sync::Arc;

use evenkeel_balance::latency::TooSlow;
use evenkeel_balance::window::TooManyErrors;

use super::packet;
use crate::config::{self, Balance, HashBy, KeepAlive, SameSite, Secure};
use crate::health::HttpCheck;
use crate::http::Split;
use crate::upstream::KeyPart;
use crate::upstream::cookie::{CookieRules, SecureWhen};
use crate::upstream::h2::H2;
use crate::upstream::idle::Keep;
use crate::upstream::introduce::{Fact, ProxyVersion, SendProxy};
use crate::upstream::outliers::{ErrorRules, LatencyRules, OutlierRules};

/// Limits are per process: each worker has its share.
pub(super) fn keep(config: &config::Upstream, workers: usize) -> Option<Keep> {
    match &config.keep_alive {
        // What has been said of one client on a connection does not hold for the next.
        KeepAlive::On(keep) if config.send_proxy.is_none() && !config.transparent => Some(Keep {
            max: (keep.max as usize).div_ceil(workers.max(1)),
            idle: keep.idle.0,
            requests: keep.requests,
        }),
        KeepAlive::On(_) | KeepAlive::Off => None,
    }
}

pub(super) fn send_proxy(config: &config::Upstream) -> Option<SendProxy> {
    let version = match config.send_proxy? {
        config::SendProxy::V1 => ProxyVersion::V1,
        config::SendProxy::V2 => ProxyVersion::V2,
    };
    let facts = config.send_proxy_tlvs.iter().map(|fact| match fact {
        config::ProxyTlv::Authority => Fact::Authority,
        config::ProxyTlv::Alpn => Fact::Alpn,
        config::ProxyTlv::Ssl => Fact::Ssl,
        config::ProxyTlv::UniqueId => Fact::UniqueId,
    });
    Some(SendProxy { version, facts: facts.collect() })
}

pub(super) fn h2(config: &config::Upstream) -> H2 {
    let limits = &config.h2_limits;
    H2 {
        streams_max: config.streams_max as usize,
        resets: limits.resets_per_second,
        pings: limits.pings_per_second,
        settings: limits.settings_per_second,
        empty: limits.empty_frames_per_second,
        control: limits.control_frames_per_second,
        heads: limits.heads_per_second,
        continuations: limits.continuations_max,
    }
}

pub(super) fn key_part(balance: &Balance) -> KeyPart {
    let Balance::Hash { by, .. } = balance else { return KeyPart::Source };
    let bytes = |name: &String| name.as_bytes().into();
    match by {
        HashBy::Source => KeyPart::Source,
        HashBy::Sni => KeyPart::Name,
        HashBy::Header(name) => KeyPart::Header(bytes(name)),
        HashBy::Cookie(name) => KeyPart::Cookie(bytes(name)),
        HashBy::Path => KeyPart::Path,
        HashBy::Uri => KeyPart::Uri,
        HashBy::Query(name) => KeyPart::Query(bytes(name)),
        HashBy::Packet(part) => KeyPart::Packet(packet::part(*part)),
        HashBy::FirstPacket(part) => KeyPart::FirstPacket(packet::part(*part)),
    }
}

pub(super) fn cookie(config: &config::Sticky) -> CookieRules {
    CookieRules {
        name: config.cookie.clone(),
        key_file: config.key_file.clone(),
        max_age: config.max_age.map(|age| age.0),
        same_site: match config.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        },
        secure: match config.secure {
            Secure::Auto => SecureWhen::ClientUsesTls,
            Secure::Always => SecureWhen::Always,
            Secure::Never => SecureWhen::Never,
        },
    }
}

pub(super) fn split(config: &config::Route) -> Split<Arc<str>> {
    let shares = config.split.iter().map(|share| (share.upstream.as_str().into(), share.weight));
    Split::new(&shares.collect::<Vec<_>>(), config.split_cookie.as_ref().map(cookie))
}

pub(super) fn outliers(config: &config::Upstream, passive: bool) -> OutlierRules {
    let errors = config.eject_errors.as_ref().filter(|_| passive).map(|rules| ErrorRules {
        too_many: TooManyErrors { percent: rules.share.0, answers: rules.answers },
        within: rules.within.0,
    });
    let latency = config.eject_latency.as_ref().filter(|_| passive).map(|rules| LatencyRules {
        too_slow: TooSlow { times: rules.times, at_least: rules.at_least.0 },
        answers: rules.answers,
        within: rules.within.0,
    });
    OutlierRules { errors, latency }
}

pub(super) fn http_check(
    path: &str,
    status: Vec<RangeInclusive<u16>>,
    config: &config::Probe,
) -> HttpCheck {
    HttpCheck {
        method: config.method.to_string(),
        path: path.to_owned(),
        host: config.host.clone(),
        headers: config.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        status,
        body: config.body.as_ref().map(|body| body.0.clone()),
    }
}
