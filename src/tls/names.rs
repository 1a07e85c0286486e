//! Which certificate a client is shown, by the name it asks for (SNI, RFC 6066 3), and what is demanded of it.
//! An exact name goes before a wildcard, which stands for one label; who asks for nothing known gets the first.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::{Flaw, Part};

/// What there is for one name.
#[derive(Debug, Clone)]
struct Entry {
    /// The preferred one first. A client is shown the first that it can use.
    certified: Vec<Arc<CertifiedKey>>,
    demand: usize,
}

/// The certificates of one listener by their names.
#[derive(Debug)]
pub(super) struct ByName {
    first: Entry,
    exact: HashMap<String, Entry>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Entry>,
}

/// A certificate, the names it is for, and the number of what is demanded of their clients.
pub(super) type Named = (Arc<CertifiedKey>, Vec<String>, usize);

impl ByName {
    /// One certificate at least. Several for one name are for different clients; of the same kind, the first counts.
    pub(super) fn new(all: Vec<Named>) -> Result<ByName, Flaw> {
        let (first, names, demand) = all.first().ok_or_else(Flaw::nothing)?.clone();
        let mut by_name = ByName {
            first: Entry { certified: vec![first], demand },
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        let first_name = names.first().map(|name| normal(name));
        for (index, (certified, names, demand)) in all.into_iter().enumerate() {
            if index > 0 && names.is_empty() {
                return Err(nameless());
            }
            for asked in names.iter().map(|name| normal(name)) {
                let (map, name) = match asked.strip_prefix("*.") {
                    Some(below) => (&mut by_name.wildcard, below.to_owned()),
                    None => (&mut by_name.exact, asked.clone()),
                };
                let entry =
                    map.entry(name).or_insert_with(|| Entry { certified: Vec::new(), demand });
                if entry.demand != demand {
                    return Err(clash(&asked));
                }
                entry.certified.push(Arc::clone(&certified));
                // Signing with RSA takes ten times as long.
                entry.certified.sort_by_key(|certified| is_rsa(certified));
            }
        }
        // Whoever asks for nothing has the same choice as whoever asks for the first name.
        if let Some(entry) = first_name.and_then(|name| by_name.known(&name).cloned()) {
            by_name.first = entry;
        }
        Ok(by_name)
    }

    /// Every name that is known, wildcards as they are written.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        let wildcards = self.wildcard.keys().map(|below| format!("*.{below}"));
        self.exact.keys().cloned().chain(wildcards)
    }

    /// The certificate that a client is shown if it can use all of them.
    pub(super) fn preferred(&self, asked: Option<&str>) -> Option<&CertifiedKey> {
        self.find(asked).certified.first().map(|certified| &**certified)
    }

    /// The number of what is demanded of clients that ask for a name.
    pub(super) fn demand(&self, asked: Option<&str>) -> usize {
        self.find(asked).demand
    }

    /// Whether there is a certificate for a name.
    pub(super) fn knows(&self, asked: Option<&str>) -> bool {
        asked.is_some_and(|name| self.known(&normal(name)).is_some())
    }

    fn find(&self, asked: Option<&str>) -> &Entry {
        asked.and_then(|name| self.known(&normal(name))).unwrap_or(&self.first)
    }

    fn known(&self, name: &str) -> Option<&Entry> {
        let below = || self.wildcard.get(name.split_once('.')?.1);
        let literal = || self.wildcard.get(name.strip_prefix("*.")?);
        self.exact.get(name).or_else(literal).or_else(below)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certified = &self.find(hello.server_name()).certified;
        let usable = |certified: &&Arc<CertifiedKey>| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // Where none can be used, the handshake says so.
        certified.iter().find(usable).or_else(|| certified.first()).cloned()
    }
}

fn nameless() -> Flaw {
    let message = "no name of a host stands in one of the certificates".to_owned();
    let advice = "nobody could ask for it: have it issued with subjectAltName, or write it first";
    Flaw::new(Part::Certificate, message, advice)
}

fn clash(name: &str) -> Flaw {
    let message = format!("of two certificates for {name}, each demands something else of clients");
    let advice = "write the same client-auth, client-ca and client-crl for both";
    Flaw::new(Part::Certificate, message, advice)
}

fn is_rsa(certified: &CertifiedKey) -> bool {
    certified.key.algorithm() == SignatureAlgorithm::RSA
}

/// Names are compared without case, and without the dot that may end them.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    fn named(names: &[&str], demand: usize) -> Named {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = aws_lc_rs::default_provider();
        let chain = vec![made.cert.der().clone()];
        (Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap()), names, demand)
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_the_first_serves_the_rest() {
        let all = [&["first.test"][..], &["*.a.test", "A.test"], &["www.a.test"], &["x.a.test"]];
        let all: Vec<_> = all.into_iter().enumerate().map(|(n, names)| named(names, n)).collect();
        let keys: Vec<_> = all.iter().map(|(certified, ..)| Arc::clone(certified)).collect();
        let names = ByName::new(all).unwrap();
        for (asked, expected) in [
            (Some("www.a.test"), 2),
            (Some("WWW.A.test."), 2),
            (Some("other.a.test"), 1),
            (Some("a.test"), 1),
            (Some("deep.other.a.test"), 0),
            (Some("unknown.test"), 0),
            (Some(""), 0),
            (Some("."), 0),
            (None, 0),
        ] {
            assert!(Arc::ptr_eq(&keys[expected], &names.find(asked).certified[0]), "{asked:?}");
            assert_eq!(names.demand(asked), expected, "{asked:?}");
            assert_eq!(names.knows(asked), expected != 0, "{asked:?}");
        }
        assert!(ByName::new(Vec::new()).is_err());
        assert!(ByName::new(vec![named(&["a.test"], 0), named(&["A.test"], 1)]).is_err());
    }

    #[test]
    fn one_name_may_have_several_certificates_also_the_first() {
        let names =
            ByName::new(vec![named(&["*.a.test"], 0), named(&["b.test", "*.a.test"], 0)]).unwrap();
        for asked in [Some("x.a.test"), None] {
            assert_eq!(names.find(asked).certified.len(), 2, "{asked:?}");
        }
        assert_eq!(names.find(Some("b.test")).certified.len(), 1);
    }
}
