//! Where files are, and where to ask when one is not there. Whether a folder exists is not asked here: it may come
//! and go while the config stays.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{Spelled, chosen, spelled};
use crate::config::problem::{Misread, shown};
use crate::config::read::{Node, Reader, Value};

/// A path, counted from the folder of the file that names it.
impl Value for PathBuf {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let folder = reader.folder;
        reader.parsed(node, &Self::words(), |text| {
            if text.is_empty() || text.contains(char::is_control) {
                let misread = Misread::new("this cannot be a path");
                return Err(misread.advise("write a path such as \"/srv/www\""));
            }
            let path = folder.map_or_else(|| text.into(), |folder| folder.join(text));
            // What a config means must be possible to write down: `check --effective` does.
            if path.to_str().is_none() {
                return Err(Misread::new("the folder of this config has a name that is not UTF-8")
                    .advise("write an absolute path"));
            }
            Ok(path)
        })
    }

    fn words() -> String {
        "path".to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Where a request goes whose file is not there: `"upstream:NAME"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TryUpstream(pub String);

impl fmt::Display for TryUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream:{}", self.0)
    }
}

impl FromStr for TryUpstream {
    type Err = Misread;

    fn from_str(text: &str) -> Result<TryUpstream, Misread> {
        match text.strip_prefix("upstream:") {
            Some(name) if !name.is_empty() => Ok(TryUpstream(name.to_owned())),
            _ => Err(Misread::new(format!("\"{}\" is nothing to try", shown(text)))
                .advise("write upstream: and its name: \"upstream:app\"")),
        }
    }
}

impl Spelled for TryUpstream {
    const WORDS: &'static str = "\"upstream:NAME\"";
    const PATTERN: Option<&'static str> = Some("^upstream:.");
}

spelled!(TryUpstream);

/// A compressed form of a body, by its name in Accept-Encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932), `.br`.
    Br,
    /// Zstandard (RFC 8878), `.zst`.
    Zstd,
    /// gzip (RFC 1952), `.gz`.
    Gzip,
}

impl Coding {
    const ALL: [(&str, Coding); 3] =
        [("br", Coding::Br), ("zstd", Coding::Zstd), ("gzip", Coding::Gzip)];

    /// The name in Accept-Encoding and Content-Encoding.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What its files end in.
    pub fn ending(self) -> &'static str {
        match self {
            Coding::Br => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Coding {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Coding, Misread> {
        chosen(text, &Coding::ALL, "a compressed form")
    }
}

impl Spelled for Coding {
    const WORDS: &'static str = "\"br\", \"zstd\" or \"gzip\"";
    const CHOICES: &'static [&'static str] = &["br", "zstd", "gzip"];
}

spelled!(Coding);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_read_and_written_back() {
        for (text, coding) in Coding::ALL {
            assert_eq!((text.parse(), coding.to_string().as_str()), (Ok(coding), text));
        }
        assert!("brotli".parse::<Coding>().is_err());
    }

    #[test]
    fn what_to_try_is_read_and_written_back() {
        let tried: TryUpstream = "upstream:app".parse().unwrap();
        assert_eq!((tried.0.as_str(), tried.to_string().as_str()), ("app", "upstream:app"));
        for bad in ["", "app", "upstream:", "Upstream:app"] {
            assert!(bad.parse::<TryUpstream>().is_err(), "{bad}");
        }
    }
}
