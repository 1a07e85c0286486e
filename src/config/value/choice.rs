//! Values that are one of a few words: levels, formats, versions. Each word stands
//! in one place, from which reading, writing and the schema follow.

/// An enum whose variants are words of the config file.
macro_rules! choice {
    ($(#[$about:meta])* pub enum $name:ident ($words:literal) {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $word,)*
                })
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::config::problem::Misread;

            fn from_str(text: &str) -> Result<$name, Self::Err> {
                $crate::config::value::chosen(text, &[$(($word, $name::$variant)),*], $words)
            }
        }

        impl $crate::config::value::Spelled for $name {
            const WORDS: &'static str = choice!(@words $($word),*);
            const CHOICES: &'static [&'static str] = &[$($word),*];
        }

        $crate::config::value::spelled!($name);
    };
    (@words $first:literal $(, $more:literal)*) => {
        concat!("\"", $first, "\"", $(", \"", $more, "\""),*)
    };
}
pub(super) use choice;

choice! {
    /// How severe a diagnostic is, the least talkative first.
    pub enum Level ("a level") {
        /// Something does not work.
        Error = "error",
        /// Something will not work for long, or not as meant.
        Warn = "warn",
        /// What an operator wants to know on a good day.
        Info = "info",
        /// What someone searching for a fault wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How diagnostics and access lines are written.
    pub enum LogFormat ("a log format") {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Which requests from other sites come with a cookie.
    pub enum SameSite ("a word of SameSite") {
        /// None.
        Strict = "strict",
        /// Those that follow a link.
        Lax = "lax",
        /// All.
        None = "none",
    }
}

choice! {
    /// Whether a cookie is for TLS only.
    pub enum Secure ("a word of secure") {
        /// When the client's side is TLS.
        Auto = "auto",
        /// In any case.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// The method of a check.
    pub enum ProbeMethod ("a method of checks") {
        /// GET.
        Get = "GET",
        /// HEAD: no body comes back.
        Head = "HEAD",
        /// OPTIONS.
        Options = "OPTIONS",
    }
}

choice! {
    /// Whose bytes keep a connection from counting as idle.
    pub enum IdleCounts ("a side whose bytes count") {
        /// Those of the client and those of the backend.
        Both = "both",
        /// Those of the client alone.
        Client = "client",
        /// Those of whole packets of the client, where `packet` says what one is.
        Packets = "packets",
    }
}

choice! {
    /// What becomes of connections whose backend has left the config.
    pub enum RemovedBackends ("a word of removed-backends") {
        /// They go on.
        Keep = "keep",
        /// They have `drain-timeout` to end, and are cut then.
        Drain = "drain",
    }
}

choice! {
    /// How far the process locks itself in once it serves.
    pub enum Sandbox ("a word of sandbox") {
        /// As far as the kernel allows it, and the log says how far that is.
        Auto = "auto",
        /// Further, ports too; it does not start where the kernel cannot do all of it.
        Strict = "strict",
        /// Not at all.
        Off = "off",
    }
}

choice! {
    /// A version of HTTP.
    pub enum HttpVersion ("a version of HTTP") {
        /// HTTP/1.1, and HTTP/1.0 with it.
        Http11 = "1.1",
        /// HTTP/2.
        Http2 = "2",
    }
}

impl HttpVersion {
    /// Its name in ALPN (IANA, RFC 7301).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            HttpVersion::Http11 => b"http/1.1",
            HttpVersion::Http2 => b"h2",
        }
    }
}

choice! {
    /// A version of the PROXY protocol.
    pub enum SendProxy ("a version of the PROXY protocol") {
        /// A line of text.
        V1 = "v1",
        /// Binary, with a checksum.
        V2 = "v2",
    }
}

choice! {
    /// Something that a PROXY header of version 2 may say besides addresses.
    pub enum ProxyTlv ("a fact of send-proxy-tlvs") {
        /// The name that a TLS client asks for.
        Authority = "authority",
        /// The protocol that was agreed on.
        Alpn = "alpn",
        /// Version, cipher suite, and the common name of the client's certificate.
        Ssl = "ssl",
        /// HTTP: the id of the request.
        UniqueId = "unique-id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Spelled;

    #[test]
    fn words_are_read_and_written_back() {
        for text in Level::CHOICES {
            assert_eq!(text.parse::<Level>().unwrap().to_string(), *text);
        }
    }

    #[test]
    fn an_unknown_word_is_told_the_nearest_one() {
        let wrong = "debgu".parse::<Level>().unwrap_err();
        assert!(wrong.to_string().contains("did you mean \"debug\"?"), "{wrong}");
    }
}
