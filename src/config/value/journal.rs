//! Where the journal of picks is kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Spelled, spelled};
use crate::config::problem::Misread;

/// Where the journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalTo {
    /// In a folder on memory, if there is one.
    Auto,
    /// Nowhere.
    Off,
    /// Below this folder.
    Folder(PathBuf),
}

impl fmt::Display for JournalTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalTo::Auto => f.write_str("auto"),
            JournalTo::Off => f.write_str("off"),
            // A folder with the name of a word would be read back as the word.
            JournalTo::Folder(path) if matches!(path.to_str(), Some("auto" | "off")) => {
                write!(f, "./{}", path.display())
            }
            JournalTo::Folder(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for JournalTo {
    type Err = Misread;

    fn from_str(text: &str) -> Result<JournalTo, Misread> {
        match text {
            "auto" => Ok(JournalTo::Auto),
            "off" => Ok(JournalTo::Off),
            _ if text.is_empty() || text.contains(char::is_control) => {
                Err(Misread::new("this cannot be the name of a folder")
                    .advise("write \"auto\", \"off\" or a path"))
            }
            _ => Ok(JournalTo::Folder(text.into())),
        }
    }
}

impl Spelled for JournalTo {
    const WORDS: &'static str = "\"auto\", \"off\" or a path";

    fn within(self, folder: &Path) -> JournalTo {
        match self {
            JournalTo::Folder(path) => JournalTo::Folder(folder.join(path)),
            other => other,
        }
    }
}

spelled!(JournalTo);
