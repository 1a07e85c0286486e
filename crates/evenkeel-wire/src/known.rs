//! The names of fields that somebody downstream asks for, as numbers, so that a head is searched
//! without comparing text. It is a flat table; what a field means is decided where it is used.

macro_rules! known {
    ($($variant:ident $name:literal)+) => {
        /// The name of a field, when it is one that a proxy has to know.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the field of its name")]
        pub enum Known {
            /// None of the others.
            #[default]
            Other,
            $($variant,)+
        }

        impl Known {
            /// Every known name; not [`Known::Other`].
            pub const ALL: &[Known] = &[$(Known::$variant,)+];

            /// The name in lower case; empty for [`Known::Other`].
            pub fn name(self) -> &'static str {
                match self {
                    Known::Other => "",
                    $(Known::$variant => const { text($name) },)+
                }
            }

            fn of_lower_case(name: &[u8]) -> Known {
                match name {
                    $($name => Known::$variant,)+
                    _ => Known::Other,
                }
            }
        }
    };
}

known! {
    Host b"host"
    ContentLength b"content-length"
    TransferEncoding b"transfer-encoding"
    Connection b"connection"
    KeepAlive b"keep-alive"
    ProxyConnection b"proxy-connection"
    Te b"te"
    Trailer b"trailer"
    Upgrade b"upgrade"
    Expect b"expect"
    Cookie b"cookie"
    SetCookie b"set-cookie"
    Authorization b"authorization"
    ProxyAuthenticate b"proxy-authenticate"
    ProxyAuthorization b"proxy-authorization"
    Via b"via"
    Date b"date"
    Server b"server"
    ContentType b"content-type"
    ContentEncoding b"content-encoding"
    AcceptEncoding b"accept-encoding"
    Vary b"vary"
    ETag b"etag"
    LastModified b"last-modified"
    CacheControl b"cache-control"
    Location b"location"
    UserAgent b"user-agent"
    Referer b"referer"
    Accept b"accept"
    Range b"range"
    IfRange b"if-range"
    IfMatch b"if-match"
    IfNoneMatch b"if-none-match"
    IfModifiedSince b"if-modified-since"
    IfUnmodifiedSince b"if-unmodified-since"
    XForwardedFor b"x-forwarded-for"
    XForwardedProto b"x-forwarded-proto"
    XForwardedHost b"x-forwarded-host"
    XForwardedPort b"x-forwarded-port"
    Forwarded b"forwarded"
    XRequestId b"x-request-id"
    XRealIp b"x-real-ip"
    Http2Settings b"http2-settings"
    Origin b"origin"
}

const fn text(name: &'static [u8]) -> &'static str {
    match str::from_utf8(name) {
        Ok(text) => text,
        Err(_) => panic!("a name is ASCII"),
    }
}

/// Longer than every known name, and a whole number of words.
const ROOM: usize = 24;

impl Known {
    /// Which name this is, in any case of letters.
    pub fn of(name: &[u8]) -> Known {
        Known::of_changed(name, |lower| lower.make_ascii_lowercase())
    }

    /// Which name this would be if its underscores were hyphens, as servers that hand fields on
    /// as environment variables read it (RFC 3875 section 4.1.18).
    pub(crate) fn of_underscored(name: &[u8]) -> Known {
        Known::of_changed(name, |lower| {
            lower.make_ascii_lowercase();
            lower.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        })
    }

    fn of_changed(name: &[u8], change: impl Fn(&mut [u8; ROOM])) -> Known {
        // All of the room is changed, whatever the length: that needs no loop.
        let mut lower = [0; ROOM];
        let Some(part) = lower.get_mut(..name.len()) else { return Known::Other };
        part.copy_from_slice(name);
        change(&mut lower);
        lower.get(..name.len()).map_or(Known::Other, Known::of_lower_case)
    }

    /// Whether the field says where a message ends.
    pub(crate) fn is_framing(self) -> bool {
        matches!(self, Known::Host | Known::ContentLength | Known::TransferEncoding)
    }

    /// Whether the field tells a backend who the client is.
    pub(crate) fn is_forwarding(self) -> bool {
        matches!(
            self,
            Known::XForwardedFor
                | Known::XForwardedProto
                | Known::XForwardedHost
                | Known::XForwardedPort
                | Known::Forwarded
                | Known::XRequestId
                | Known::XRealIp
        )
    }
}
