//! Why a message was refused, as a closed list: each reason has the word that goes to the log, the
//! status that a client is told, and one line for a person. It must never carry bytes of the peer.

use std::error::Error;
use std::fmt;

/// A message that has no single reading, or goes beyond a limit; the connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule it broke: the first one met, when there are several.
    pub reason: Reason,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.meaning())
    }
}

impl Error for Refusal {}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($variant:ident $word:literal $status:literal $meaning:literal)+) => {
        /// The rule that a message broke.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = concat!($meaning, ".")] $variant,)+
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)+];

            /// The word for logs and metrics, which stays the same over versions.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word,)+ }
            }

            /// The status a client is answered with; a refused backend's client gets a 502 instead.
            pub fn status(self) -> u16 {
                match self { $(Reason::$variant => $status,)+ }
            }

            /// What was wrong, in one line for a person.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => $meaning,)+ }
            }
        }
    };
}

reasons! {
    BareLf "bare-lf" 400 "a line feed stands without a carriage return before it"
    BareCr "bare-cr" 400 "a carriage return stands without a line feed after it"
    RequestLineInvalid "request-line-invalid" 400 "the first line is not a method, a target and a version between single spaces"
    RequestLineTooLong "request-line-too-long" 414 "the request line is longer than the limit"
    MethodInvalid "method-invalid" 400 "the method is not a token of at most 32 bytes"
    TargetInvalid "target-invalid" 400 "the target has bytes or a form that its method does not allow"
    TargetUserinfo "target-userinfo" 400 "the target names a user"
    TargetScheme "target-scheme" 400 "the target has another scheme than http and https"
    VersionUnsupported "version-unsupported" 505 "the version is neither HTTP/1.0 nor HTTP/1.1"
    StatusLineInvalid "status-line-invalid" 400 "the first line is not a version, a status of three digits and a reason"
    StatusLineTooLong "status-line-too-long" 400 "the status line is longer than the limit"
    HeadTooLarge "head-too-large" 431 "the head is larger than the limit"
    FieldsTooMany "fields-too-many" 431 "the head has more fields than the limit"
    ObsFold "obs-fold" 400 "a field is continued on a line that begins with whitespace"
    ColonMissing "colon-missing" 400 "a line of the head has no colon"
    NameEmpty "name-empty" 400 "a field has no name"
    SpaceBeforeColon "space-before-colon" 400 "whitespace stands between the name of a field and its colon"
    NameInvalid "name-invalid" 400 "the name of a field is not a token"
    ValueInvalid "value-invalid" 400 "the value of a field has a control byte"
    UnderscoreLookAlike "underscore-look-alike" 400 "a name with an underscore looks like a field of framing or forwarding"
    HostMissing "host-missing" 400 "a request of HTTP/1.1 has no Host"
    HostRepeated "host-repeated" 400 "there is more than one Host"
    HostInvalid "host-invalid" 400 "the Host is not a name or an address with an optional port"
    HostContradicts "host-contradicts" 400 "the Host and the target name different hosts"
    ContentLengthRepeated "content-length-repeated" 400 "there is more than one Content-Length"
    ContentLengthInvalid "content-length-invalid" 400 "the Content-Length is not a row of digits"
    ContentLengthOverflow "content-length-overflow" 413 "the Content-Length does not fit into 64 bits"
    TransferEncodingRepeated "transfer-encoding-repeated" 400 "there is more than one Transfer-Encoding"
    TransferEncodingInvalid "transfer-encoding-invalid" 400 "the Transfer-Encoding does not end in one chunked"
    TransferCodingUnknown "transfer-coding-unknown" 501 "the body has a transfer coding beside chunked"
    TransferEncodingOnOldVersion "transfer-encoding-on-1.0" 400 "a message of HTTP/1.0 has a Transfer-Encoding"
    TeWithLength "te-with-length" 400 "there are both a Transfer-Encoding and a Content-Length"
    LengthContradicts "length-contradicts" 400 "the Content-Length says something else than the frames do"
    MessageMalformed "message-malformed" 400 "the message breaks a rule of HTTP/2"
    ConnectionField "connection-field" 400 "a message of HTTP/2 has a field that belongs to a connection of HTTP/1"
    BodyNotAllowed "body-not-allowed" 400 "a CONNECT or TRACE comes with a body"
    ExpectUnknown "expect-unknown" 417 "the Expect is something else than 100-continue"
    ChunkSizeInvalid "chunk-size-invalid" 400 "the size of a chunk is not a row of hexadecimal digits"
    ChunkSizeOverflow "chunk-size-overflow" 413 "the size of a chunk does not fit into 63 bits or has more than 16 digits"
    ChunkExtensionInvalid "chunk-extension-invalid" 400 "a chunk extension has a control byte"
    ChunkExtensionTooLong "chunk-extension-too-long" 400 "the chunk extensions are longer than the limit"
    ChunkEndMissing "chunk-end-missing" 400 "the data of a chunk is not followed by an empty line end"
    TrailersTooLarge "trailers-too-large" 431 "the trailers are larger than the limit"
    TrailersTooMany "trailers-too-many" 431 "there are more trailers than the limit"
}
