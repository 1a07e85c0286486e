//! After what a request goes to a backend again, as a word or a status. What may go again at all is not decided here.

use std::fmt;
use std::str::FromStr;

use super::{Spelled, StatusRange, spelled};
use crate::config::problem::Misread;

/// After what a request goes to a backend again.
#[derive(Debug, Clone, PartialEq)]
pub enum RetryOn {
    /// The backend ended before its answer began.
    Gone,
    /// It did not begin to answer in time.
    Late,
    /// It answered with one of these.
    Status(StatusRange),
}

impl FromStr for RetryOn {
    type Err = Misread;

    fn from_str(text: &str) -> Result<RetryOn, Misread> {
        match text {
            "gone" => Ok(RetryOn::Gone),
            "late" => Ok(RetryOn::Late),
            _ => text.parse().map(RetryOn::Status).map_err(|_| {
                let advice = "write \"gone\", \"late\", or a status such as \"503\" or \"502-504\"";
                Misread::new(format!("\"{text}\" is nothing to retry after")).advise(advice)
            }),
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::Gone => f.write_str("gone"),
            RetryOn::Late => f.write_str("late"),
            RetryOn::Status(range) => range.fmt(f),
        }
    }
}

impl Spelled for RetryOn {
    const WORDS: &'static str = "\"gone\", \"late\" or a status, as 503 or \"502-504\"";
    const PATTERN: Option<&'static str> = Some("^(gone|late|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$");
    const BARE: bool = true;

    fn from_integer(number: i128) -> Result<RetryOn, Misread> {
        number.to_string().parse()
    }

    fn as_integer(&self) -> Option<u64> {
        match self {
            RetryOn::Status(range) => range.as_integer(),
            RetryOn::Gone | RetryOn::Late => None,
        }
    }
}

spelled!(RetryOn);
