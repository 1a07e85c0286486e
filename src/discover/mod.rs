//! Sources that feed an upstream's list of backends while it runs. So far there is one: the DNS.
//! A source must never empty a list because it failed; the last answer stands until a better one comes.

pub(crate) mod dns;
