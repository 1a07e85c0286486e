//! What a listener offers its clients, as its files are at one time: certificates by name, and for each name what is
//! demanded of clients. It is made as a whole and never changed: files that have changed make a new one.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::version::{TLS12, TLS13};

use super::certificate;
use super::clients::{Auth, Clients, Demand};
use super::expiry::Expiry;
use super::files::{Flaw, Part};
use super::names::ByName;
use super::shown::Shown;
use super::tickets::{TicketKeys, Tickets};
use super::{Settings, Version};

/// What a listener offers.
#[derive(Debug)]
pub(crate) struct Offer {
    names: Arc<ByName>,
    /// By their numbers; where all names have the same, there is one.
    terms: Vec<Terms>,
    /// By the numbers of the terms.
    demands: Vec<Demand>,
    refuse_unknown: bool,
    /// What clients are shown.
    expiries: Arc<[Expiry]>,
    /// Whether some certificate only stands in for another one.
    stands_in: bool,
    /// When it is no longer what it should be, without a file having changed.
    pub(super) until: Option<SystemTime>,
}

/// What is demanded of the clients of some names, and the handshake that goes with it.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) config: Arc<ServerConfig>,
    /// None where clients are not asked for a certificate.
    pub(super) clients: Option<Arc<Clients>>,
}

/// An offer, and what is not as it should be about it.
pub(super) struct Made {
    pub(super) offer: Offer,
    pub(super) out_of_date: Vec<(Part, String)>,
}

impl Offer {
    /// Reads every file.
    pub(super) fn load(settings: &Settings, keys: &Arc<TicketKeys>) -> Result<Made, Flaw> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut demands = Vec::new();
        let (mut named, mut out_of_date, mut until) = (Vec::new(), Vec::new(), None);
        let (mut stands_in, mut expiries) = (false, Vec::new());
        for (source, demand) in &settings.identities {
            let identity = certificate::load(source)?;
            let number = demands.iter().position(|known| *known == demand).unwrap_or_else(|| {
                demands.push(demand);
                demands.len() - 1
            });
            stands_in |= identity.stands_in;
            expiries.extend(Expiry::of(&identity));
            until = [until, identity.until].into_iter().flatten().min();
            out_of_date.extend(identity.out_of_date);
            named.push((identity.certified, identity.names, number));
        }
        let names = Arc::new(ByName::new(named)?);
        let mut terms = Vec::new();
        for demand in &demands {
            let clients = match demand.auth {
                Auth::Off => None,
                Auth::Optional | Auth::Required => {
                    Some(Arc::new(Clients::load(demand, &provider)?))
                }
            };
            terms.push(Terms::new(settings, &provider, &names, clients, keys)?);
        }
        let refuse_unknown = settings.refuse_unknown_names;
        let demands = demands.into_iter().cloned().collect();
        let expiries = expiries.into();
        let offer = Offer { names, terms, demands, refuse_unknown, expiries, stands_in, until };
        Ok(Made { offer, out_of_date })
    }

    /// Until when each certificate is valid.
    pub(super) fn expiries(&self) -> Arc<[Expiry]> {
        Arc::clone(&self.expiries)
    }

    /// Whether this may take the place of another one. What is not there any more must not open a name to clients that it
    /// was closed to, nor put a stand-in in the place of what was good.
    pub(super) fn may_follow(&self, before: &Offer) -> Result<(), Flaw> {
        if self.stands_in && !before.stands_in {
            let message = "a certificate that ACME had got is gone or damaged".to_owned();
            return Err(Flaw::new(Part::Certificate, message, "bring its folder back"));
        }
        for name in before.names.all() {
            let (was, is) = (before.demand_of(&name), self.demand_of(&name));
            if was != is {
                let message = format!(
                    "{name} is in no certificate any more, and would be served as a name is of which nothing is said"
                );
                let advice = "have the certificate issued for it too; a restart takes it as it is";
                return Err(Flaw::new(Part::Certificate, message, advice));
            }
        }
        Ok(())
    }

    fn demand_of(&self, name: &str) -> Option<&Demand> {
        self.demands.get(self.names.demand(Some(name)))
    }

    /// The number of the terms for a name, and whether they are to be had.
    pub(super) fn terms_for(&self, name: Option<&str>) -> Option<usize> {
        let known = !self.refuse_unknown || self.names.knows(name);
        known.then(|| self.names.demand(name))
    }

    /// The certificate for a name, as far as it can be read, and what is demanded of the client; none if it is refused.
    pub(super) fn would_show(&self, name: Option<&str>) -> Option<(Option<Shown>, Auth)> {
        let demand = self.demands.get(self.terms_for(name)?)?;
        let certificate = self.names.preferred(name).and_then(|key| key.cert.first());
        Some((certificate.and_then(Shown::of), demand.auth))
    }

    pub(super) fn terms(&self, number: usize) -> Option<&Terms> {
        self.terms.get(number)
    }

    /// Whether what is demanded for this host is what those terms demand.
    pub(super) fn covers(&self, terms: usize, host: &[u8]) -> bool {
        let is_same = |host| self.names.demand(Some(host)) == terms;
        self.terms.len() == 1 || std::str::from_utf8(host).is_ok_and(is_same)
    }
}

impl Terms {
    fn new(
        settings: &Settings,
        provider: &Arc<CryptoProvider>,
        names: &Arc<ByName>,
        clients: Option<Arc<Clients>>,
        keys: &Arc<TicketKeys>,
    ) -> Result<Terms, Flaw> {
        let versions: &[_] = match settings.min_version {
            Version::Tls12 => &[&TLS13, &TLS12],
            Version::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
        let builder = builder.with_protocol_versions(versions).map_err(Flaw::of_library)?;
        let digest = clients.as_ref().map_or([0; 32], |clients| clients.digest());
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
            None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(names) as _);
        config.alpn_protocols = settings.protocols.clone();
        config.ticketer = Arc::new(Tickets::new(Arc::clone(keys), digest));
        // Tickets are all there is to resume by: what is kept here would outlive what was demanded.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        // The connection goes on with them by itself.
        config.enable_secret_extraction = true;
        Ok(Terms { config: Arc::new(config), clients })
    }
}
