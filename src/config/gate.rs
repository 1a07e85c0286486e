//! The sections of what a route demands of a request before it leads anywhere: how often, how many, by whom.
//! Declared like everything else in a config.

use std::path::PathBuf;

use super::*;

section! {
    /// `rate-limit` of a route or listener: how many requests one client may send.
    pub struct RateLimit {
        /// Requests that are let through in each `per`.
        requests: u32 = required,
        /// The time in which so many requests are let through.
        per: Time = Time::seconds(1),
        /// Requests that may come at once after a rest. Default: as many as `requests`.
        burst: Option<u32> = None,
        /// What is one client: `"client"` for its address (IPv6: its /64), `"header:NAME"` or `"cookie:NAME"` for a value; requests without that count by address.
        by: CountBy = CountBy::Client,
        /// Clients that are remembered. Beyond it those are forgotten, and forgiven, whose allowance is the fullest.
        keys_max: u32 = 100_000,
    }
}

section! {
    /// `basic-auth` of a route: only users of a file, with their passwords, are let in (RFC 7617).
    pub struct BasicAuth {
        /// The file of users and their bcrypt hashes, one `USER:HASH` a line, as `htpasswd -B` writes it. It is read at the start.
        users_file: PathBuf = required,
        /// What the password is for, as browsers show it.
        realm: String = "restricted".to_owned(),
        /// Whether the backend gets the `Authorization` header.
        pass: bool = false,
    }
}

section! {
    /// `forward-auth` of a route: another server is asked first whether a request may pass. Any status from 200 to 299 is a yes; all other answers go to the client. If it cannot be asked, nothing passes.
    pub struct ForwardAuth {
        /// The upstream to ask, within its own `response-timeout`.
        upstream: String = required,
        /// The path to ask for, with a GET. `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For` say what the client asks; `Cookie`, `Authorization` and `Accept` are the client's.
        path: String = "/".to_owned(),
        /// Headers of a yes that the request gets. What a client sends by these names is always dropped.
        copy_headers: Vec<String> = Vec::new(),
        /// The largest body of an answer.
        answer_max: Bytes = Bytes::kib(64),
    }
}

section! {
    /// `mirror` of a route: another upstream gets a copy of some requests, once the client has its answer. What it answers is thrown away.
    pub struct Mirror {
        /// The upstream that gets the copies.
        upstream: String = required,
        /// The share of the requests that is copied.
        share: Percent = Percent(100),
        /// The largest body that is copied; requests with a larger one are not. At most 1MiB.
        body_max: Bytes = Bytes::kib(64),
        /// Copies on their way at the same time; beyond it none is made.
        requests_max: u32 = 100,
    }
}
