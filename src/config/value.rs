//! The kinds of value a key can have: times, sizes, addresses, algorithms. Each knows how to be
//! read, written and described; none knows which key it stands behind.

mod access;
mod account;
mod address;
mod admin;
mod balance;
mod choice;
mod collector;
mod files;
mod gate;
mod hash_by;
mod health;
mod journal;
mod log_to;
mod network;
mod packet;
mod page;
mod pattern;
mod retry_on;
mod size;
mod template;
mod time;
mod tls;
mod toggle;
pub(crate) mod token;

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

pub use access::{AccessFormat, AccessVariable, Recorded};
pub use account::Account;
pub use address::Address;
pub(crate) use address::is_host_name;
pub use admin::AdminListen;
pub use balance::{Balance, HashBalance, HashOn};
pub use choice::{
    HttpVersion, IdleCounts, Level, LogFormat, ProbeMethod, ProxyTlv, RemovedBackends, SameSite,
    Sandbox, Secure, SendProxy,
};
pub use collector::Collector;
pub use files::{Coding, TryUpstream};
pub use gate::{CountBy, Forwarding, HostHeader};
pub use hash_by::{HashBy, PacketPart};
pub(crate) use health::from_hex;
pub use health::{Bytestring, Health, KeepAlive, Keepalive, StatusRange, Switch};
pub use journal::JournalTo;
pub use log_to::{AccessTo, Facility, LogTo, SyslogAt};
pub use packet::{
    BalancePer, PacketLength, PacketProtocol, PacketRetry, PrologueVariable, Replies,
};
pub use page::{Page, PageKind, PageVariable, error_statuses};
pub use pattern::{HostPattern, PathPattern};
pub use retry_on::RetryOn;
pub use size::{Bytes, Percent};
pub(crate) use template::read_among_braces;
pub use template::{Part, Placeholder, Template, Variable};
pub use time::{Limit, Time};
pub use tls::{
    Challenge, ClientAuth, Fingerprint, StartTls, TlsProfile, TlsVersion, UnknownName, Verify,
};
pub use toggle::Toggle;

use super::problem::{Misread, shown};
use super::read::{Node, Reader, Value, integer};

/// A value that is written as one string, or as one integer.
pub(crate) trait Spelled: FromStr<Err = Misread> + Display {
    /// The kind of value, as it stands in messages and in the reference page.
    const WORDS: &'static str;
    /// All there is to choose from, if that is little.
    const CHOICES: &'static [&'static str] = &[];
    /// What the string looks like, if that can be said.
    const PATTERN: Option<&'static str> = None;
    /// Whether a bare integer may stand there too.
    const BARE: bool = false;

    /// The value of a bare integer.
    fn from_integer(number: i128) -> Result<Self, Misread> {
        Err(Misread::new(format!("expected {}, found the integer {number}", Self::WORDS)))
    }

    /// The integer that says the same as the string, if that is how a person would write it.
    fn as_integer(&self) -> Option<u64> {
        None
    }

    /// What keeps the place of a misread value in a list, so that its neighbours keep theirs.
    fn placeholder() -> Option<Self> {
        None
    }

    /// The value with its path counted from the folder of the file that names it.
    fn within(self, _folder: &Path) -> Self {
        self
    }
}

impl<T: Spelled> Value for T {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let value = if matches!(node.get_ref(), DeValue::Integer(_)) {
            let number = integer(node.get_ref()).unwrap_or(i128::MAX);
            match T::from_integer(number) {
                Ok(value) => value,
                Err(misread) => {
                    reader.report(node.span(), misread);
                    return None;
                }
            }
        } else {
            reader.parsed(node, T::WORDS, str::parse)?
        };
        Some(match reader.folder {
            Some(folder) => value.within(folder),
            None => value,
        })
    }

    fn words() -> String {
        T::WORDS.to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        spelled_schema::<T>()
    }

    fn blank() -> Option<Self> {
        T::placeholder()
    }
}

fn spelled_schema<T: Spelled>() -> Schema {
    let mut text = json_schema!({ "type": "string" });
    let environment = json_schema!({ "type": "string", "pattern": "\\$\\{" });
    let mut forms = Vec::new();
    if !T::CHOICES.is_empty() {
        text = json_schema!({ "enum": T::CHOICES });
        forms.push(environment);
    } else if let Some(pattern) = T::PATTERN {
        text.insert("pattern".into(), format!("{pattern}|\\$\\{{").into());
    }
    forms.insert(0, text);
    if T::BARE {
        forms.push(json_schema!({ "type": "integer", "minimum": 0 }));
    }
    match forms.len() {
        1 => forms.remove(0),
        _ => json_schema!({ "anyOf": forms }),
    }
}

/// The outward faces of a spelled value: serialized as it is written, with a schema.
macro_rules! spelled {
    ($($name:ident),*) => {$(
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match $crate::config::value::Spelled::as_integer(self) {
                    Some(number) => serializer.serialize_u64(number),
                    None => serializer.collect_str(self),
                }
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                $crate::config::value::spelled_schema::<$name>()
            }
        }
    )*};
}
use spelled;

/// The value a file names by one of a few words; an unknown word is told the nearest known one.
fn chosen<T: Copy>(text: &str, choices: &[(&str, T)], words: &str) -> Result<T, Misread> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = || choices.iter().map(|(name, _)| *name);
    let misread = Misread::new(format!("\"{}\" is not {words}", shown(text)));
    let all = names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    Err(match super::problem::nearest(text, names()) {
        Some(near) => misread.advise(format!("did you mean \"{near}\"? There are {all}")),
        None => misread.advise(format!("there are {all}")),
    })
}
