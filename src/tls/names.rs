//! Which certificate a client is shown, by the name it asks for (SNI, RFC 6066 3).
//! An exact name goes before a wildcard, which stands for one label; who asks for nothing known gets the first.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Identity;

/// The certificates of one listener by their names.
#[derive(Debug)]
pub(super) struct ByName {
    first: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// None without a certificate. Of two for one name, the first counts.
    pub(super) fn new(identities: Vec<Identity>) -> Option<ByName> {
        let first = Arc::clone(&identities.first()?.certified);
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for Identity { certified, names, .. } in identities {
            for name in names.iter().map(|name| normal(name)) {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(below) => (&mut wildcard, below.to_owned()),
                    None => (&mut exact, name),
                };
                map.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
        }
        Some(ByName { first, exact, wildcard })
    }

    fn find(&self, asked: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = asked.map(normal) else { return &self.first };
        let below = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(below).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
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

    fn identity(names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = aws_lc_rs::default_provider();
        let chain = vec![made.cert.der().clone()];
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap());
        Identity { certified, names, out_of_date: None }
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_the_first_serves_the_rest() {
        let identities =
            [&["first.test"][..], &["*.a.test", "A.test"], &["www.a.test"], &["x.a.test"]];
        let identities: Vec<_> = identities.into_iter().map(identity).collect();
        let keys: Vec<_> = identities.iter().map(|one| Arc::clone(&one.certified)).collect();
        let names = ByName::new(identities).unwrap();
        let number = |asked| keys.iter().position(|key| Arc::ptr_eq(key, names.find(asked)));
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
            assert_eq!(number(asked), Some(expected), "{asked:?}");
        }
        assert!(ByName::new(Vec::new()).is_none());
    }
}
