//! The sections of balancing beyond one word: cookies that keep a client where it is, shares of a route, and what
//! backends are left out for. Declared like everything else in a config.

use std::path::PathBuf;

use super::*;

section! {
    /// A signed cookie that keeps a client where it is: `sticky` of an upstream, `split-cookie` of a route. It names no address.
    pub struct Sticky from cookie {
        /// The name of the cookie.
        cookie: String = required,
        /// A file with the key that cookies are signed with, 32 to 4096 bytes: one for all nodes, and for the time after a restart. Absent: a key of this process, so that its cookies end with it.
        key_file: Option<PathBuf> = None,
        /// How long a cookie holds without being used. Absent: until the browser ends.
        max_age: Option<Time> = None,
        /// The `SameSite` of the cookie.
        same_site: SameSite = SameSite::Lax,
        /// Whether the cookie is `Secure`; `"auto"` is when the client's side is TLS.
        secure: Secure = Secure::Auto,
    }
}

section! {
    /// One share of a `split`.
    pub struct SplitShare from upstream {
        /// The upstream that the share goes to.
        upstream: String = required,
        /// The share against the others; `0` is none.
        weight: u32 = 1,
    }
}

section! {
    /// `eject-errors`: leave a backend out for the share of its HTTP answers that are 5xx, or that never came.
    pub struct EjectErrors from share {
        /// The share of errors from which on a backend is ejected.
        share: Percent = required,
        /// Requests it must have had within the time before it is judged.
        answers: u32 = 20,
        /// The time that is looked back on.
        within: Time = Time::seconds(10),
    }
}

section! {
    /// `eject-latency`: leave a backend out that takes much longer to answer HTTP requests than the others.
    pub struct EjectLatency from times {
        /// How many times the others' median its own must be, above 1.
        times: f64 = required,
        /// Answers it must have given within the time before it is judged.
        answers: u32 = 20,
        /// The time that is looked back on.
        within: Time = Time::seconds(10),
        /// A backend whose median is below this is fast enough, whatever the others do.
        at_least: Time = Time(std::time::Duration::from_millis(20)),
    }
}
