//! The method of a request: the nine that HTTP defines by name, any other token by its bytes.
//! Methods are told apart by case, as RFC 9110 section 9.1 has it: `get` is not GET.

use std::fmt;

/// What a request asks to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of its name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// A token that is none of the others; make it with [`Method::of`].
    Other(Box<[u8]>),
}

impl Method {
    /// The longest method that is let through, in bytes.
    pub const BYTES_MAX: usize = 32;

    /// The method of this spelling, unless it is no token or longer than [`Method::BYTES_MAX`].
    pub fn of(name: &[u8]) -> Option<Method> {
        let method = match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ if name.len() <= Method::BYTES_MAX && crate::is_name(name) => {
                Method::Other(name.into())
            }
            _ => return None,
        };
        Some(method)
    }

    /// The method as it stands in a request line.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Method::Get => b"GET",
            Method::Head => b"HEAD",
            Method::Post => b"POST",
            Method::Put => b"PUT",
            Method::Delete => b"DELETE",
            Method::Options => b"OPTIONS",
            Method::Patch => b"PATCH",
            Method::Trace => b"TRACE",
            Method::Connect => b"CONNECT",
            Method::Other(name) => name,
        }
    }

    /// Whether it asks for no change (RFC 9110 section 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// Whether asking twice does what asking once does (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is ASCII; an `Other` that was not made by `of` is shown as well as it goes.
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}
