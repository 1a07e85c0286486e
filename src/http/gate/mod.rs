//! What a route demands of a request before it leads anywhere: not too often, not too many at once, by somebody known.
//! Each gate is a file; `pass` asks them in the order of what they cost, and the first one that refuses answers.
//! Nothing here may grow with what clients send.

mod auth;
mod forward_auth;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_wire::{Known, Request};

use super::key::cookie;
use super::record::Told;
use super::session::{Next, Session};
use crate::config::CountBy;
use crate::limits::{ClientKey, Places};
use crate::observe::ended::Why;
pub(crate) use auth::Rules as AuthRules;
use auth::{Auth, Checked};
pub(crate) use forward_auth::ForwardAuth;
pub(crate) use rate::Rate;
use rate::RateTable;

/// What was configured for one route, or for a whole listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) rate: Option<RateRules>,
    pub(crate) requests_max: Option<u32>,
    pub(crate) auth: Option<AuthRules>,
}

/// How often one client may come, and what one client is.
#[derive(Debug, Clone)]
pub(crate) struct RateRules {
    pub(crate) rate: Rate,
    pub(crate) by: CountBy,
    pub(crate) keys_max: u32,
}

/// The gates of one route with their counts, shared by all workers.
#[derive(Debug)]
pub(crate) struct Gate {
    rate: Option<(CountBy, Arc<RateTable>)>,
    places: Option<Arc<Places>>,
    auth: Option<Auth>,
    began: Instant,
}

/// Why a gate refuses, and what the client should do.
#[derive(Debug)]
struct Refused {
    status: u16,
    why: Why,
    detail: Option<&'static str>,
    field: Option<(&'static str, String)>,
}

impl Gate {
    pub(crate) fn new(rules: &Rules) -> Gate {
        let table = |rules: &RateRules| {
            (rules.by.clone(), RateTable::new(rules.rate, rules.keys_max).into())
        };
        Gate {
            rate: rules.rate.as_ref().map(table),
            places: rules.requests_max.map(|max| Places::new(Some(max))),
            auth: rules.auth.clone().map(Auth::new),
            began: Instant::now(),
        }
    }

    /// The same gate, with its counts, by rules that mean the same but for whom they let in.
    pub(crate) fn again(&self, rules: &Rules) -> Gate {
        Gate {
            rate: self.rate.clone(),
            places: self.places.clone(),
            auth: rules.auth.clone().map(Auth::new),
            began: self.began,
        }
    }

    /// Whether there is anything to ask; for most routes there is not.
    pub(crate) fn demands_anything(&self) -> bool {
        self.rate.is_some() || self.places.is_some() || self.auth.is_some()
    }

    fn admit(&self, request: &Request, client: Option<IpAddr>) -> Result<(), Refused> {
        let Some((by, table)) = &self.rate else { return Ok(()) };
        let now = self.began.elapsed();
        let outcome = match key(by, request, client) {
            Key::Client(client) => table.admit((0_u8, client), now),
            Key::Value(value) => table.admit((1_u8, value), now),
        };
        outcome.map_err(|wait| {
            let seconds = wait.saturating_add(Duration::from_nanos(999_999_999)).as_secs();
            let again = ("Retry-After", seconds.max(1).to_string());
            Refused { field: Some(again), ..Refused::of(429, Why::LimitRate) }
        })
    }
}

/// Whom a request counts for.
enum Key {
    /// An address; all clients of Unix sockets are one.
    Client(Option<ClientKey>),
    Value(Vec<u8>),
}

fn key(by: &CountBy, request: &Request, client: Option<IpAddr>) -> Key {
    let value = match by {
        CountBy::Client => None,
        // Whoever repeats the field is not another client for it.
        CountBy::Header(name) => request.fields.named(name.as_bytes()).next(),
        CountBy::Cookie(name) => cookie(request, name.as_bytes()),
    };
    match value {
        Some(value) => Key::Value(value.to_vec()),
        None => Key::Client(client.map(ClientKey::of)),
    }
}

impl Session<'_> {
    /// Lets the request through, or answers it. What it takes is given back when the request has ended.
    pub(super) async fn pass(&mut self, gate: &Gate) -> Result<(), (Next, Told)> {
        if let Err(refused) = gate.admit(&self.request, self.client_ip()) {
            return Err(self.turn_away(refused));
        }
        if let Some(places) = &gate.places {
            match places.take() {
                Some(place) => self.caller.place = Some(place),
                None => return Err(self.turn_away(Refused::of(503, Why::LimitRoute))),
            }
        }
        let Some(auth) = &gate.auth else { return Ok(()) };
        let checked = tokio::select! {
            biased;
            checked = auth.check(&self.request.fields) => checked,
            () = self.cut.asked() => {
                return Err((Next::Close(Why::DrainCut), Told::new(Why::DrainCut)));
            }
        };
        match checked {
            Checked::In(user) => {
                self.caller.user = Some(user);
                if !auth.passes_on() {
                    self.request.fields.remove(Known::Authorization);
                }
                Ok(())
            }
            Checked::Repeated => {
                let detail = Some("authorization-repeated");
                Err(self.turn_away(Refused { detail, ..Refused::of(400, Why::BadRequest) }))
            }
            Checked::Unknown => {
                let field = Some(("WWW-Authenticate", auth.challenge().to_owned()));
                Err(self.turn_away(Refused { field, ..Refused::of(401, Why::Unauthorized) }))
            }
            Checked::Busy => {
                let detail = Some("too many passwords wait to be checked");
                Err(self.turn_away(Refused { detail, ..Refused::of(503, Why::LimitRoute) }))
            }
        }
    }

    fn turn_away(&mut self, refused: Refused) -> (Next, Told) {
        let Refused { status, why, detail, field } = refused;
        let detail = detail.map(str::to_owned);
        self.refuse_with(status, Told { detail, ..Told::new(why) }, field)
    }
}

impl Refused {
    fn of(status: u16, why: Why) -> Refused {
        Refused { status, why, detail: None, field: None }
    }
}
