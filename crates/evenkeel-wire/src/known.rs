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
            pub const fn name(self) -> &'static str {
                match self {
                    Known::Other => "",
                    $(Known::$variant => const { text($name) },)+
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

/// A name with zeros and its length behind it, as numbers that are compared at once.
type Words = [u64; ROOM / 8];

const NOTHING: Words = [0; ROOM / 8];

/// Places of the table: enough that most names stand where they are looked for first.
const PLACES: usize = 256;

/// All known names by a hash of their bytes, each at the first free place from there on. Made by the compiler.
static TABLE: [(Known, Words); PLACES] = table();

const fn table() -> [(Known, Words); PLACES] {
    let mut table = [(Known::Other, NOTHING); PLACES];
    let mut index = 0;
    while index < Known::ALL.len() {
        let name = Known::ALL[index].name().as_bytes();
        let mut padded = [0; ROOM];
        let mut at = 0;
        while at < name.len() {
            padded[at] = name[at];
            at += 1;
        }
        let Some(words) = words(padded, name.len()) else { panic!("a name is longer than ROOM") };
        let mut place = place(&words);
        while table[place].1[0] != 0 {
            place = (place + 1) % PLACES;
        }
        table[place] = (Known::ALL[index], words);
        index += 1;
    }
    table
}

const fn words(mut padded: [u8; ROOM], length: usize) -> Option<Words> {
    if length >= ROOM {
        return None;
    }
    // So that a zero at the end of a name is not taken for the room behind it.
    padded[ROOM - 1] = length as u8;
    let (words, _) = padded.as_chunks::<8>();
    match words {
        [a, b, c] => Some([u64::from_le_bytes(*a), u64::from_le_bytes(*b), u64::from_le_bytes(*c)]),
        _ => None,
    }
}

/// Where a name is looked for first: the upper bits of a product with the golden ratio (Knuth, TAOCP 3, 6.4).
const fn place(words: &Words) -> usize {
    let mixed = words[0] ^ words[1].rotate_left(23) ^ words[2].rotate_left(41);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

impl Known {
    /// Which name this is, in any case of letters.
    pub fn of(name: &[u8]) -> Known {
        Known::of_changed(name, |lower| lower.make_ascii_lowercase())
    }

    /// Which name the first `length` bytes of `text` are. What comes behind them is read too, and left out of account:
    /// copying as many bytes as a name has would cost more than all the rest.
    pub(crate) fn at_start_of(text: &[u8], length: usize) -> Known {
        match text.first_chunk::<ROOM>() {
            Some(room) if length < ROOM => {
                let mut lower = *room;
                lower.make_ascii_lowercase();
                let (words, _) = lower.as_chunks::<8>();
                let &[a, b, c] = words else { return Known::Other };
                let kept = |word, at: usize| {
                    let bytes = length.saturating_sub(at).min(8) as u32;
                    let mask = u64::MAX.checked_shr(u64::BITS - 8 * bytes).unwrap_or(0);
                    u64::from_le_bytes(word) & mask
                };
                let counted = (length as u64) << (u64::BITS - u8::BITS);
                Known::find(&[kept(a, 0), kept(b, 8), kept(c, 16) | counted])
            }
            _ => text.get(..length).map_or(Known::Other, Known::of),
        }
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
        words(lower, name.len()).map_or(Known::Other, |words| Known::find(&words))
    }

    fn find(words: &Words) -> Known {
        let mut place = place(words);
        // Names are never empty, so an empty place is the end of the search.
        while let Some((known, found)) = TABLE.get(place).filter(|(_, found)| *found != NOTHING) {
            if found == words {
                return *known;
            }
            place = (place + 1) % PLACES;
        }
        Known::Other
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
