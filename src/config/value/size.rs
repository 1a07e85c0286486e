//! Sizes and shares: `"256KiB"`, `"2MB"`, `50`, `"50%"`. MB counts in thousands and MiB in 1024s,
//! as the standards have it, because the two differ by more than a rounding error.

use std::fmt;
use std::str::FromStr;

use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// Units, those that people prefer to read first.
const UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A size: `"256KiB"`, `"2MB"`, or a bare integer of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// That many times 1024 bytes.
    pub const fn kib(n: u64) -> Bytes {
        Bytes(n * 1024)
    }

    fn unit(self) -> Option<(&'static str, u64)> {
        let fits = |size: u64| size > 1 && self.0 > 0 && self.0.is_multiple_of(size);
        UNITS.into_iter().find(|(_, size)| fits(*size))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit() {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for Bytes {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Bytes, Misread> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let size = if unit.is_empty() { Some(1) } else { known.map(|(_, size)| *size) };
        let wrong = Misread::new(format!("\"{}\" is not a size", shown(text)))
            .advise("write a whole number with a unit from KiB, MiB, GiB, kB, MB, GB: \"256KiB\"");
        let (Some(size), false) = (size, number.is_empty()) else { return Err(wrong) };
        let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(size));
        // TOML has no larger integer, so a larger size could not be written down.
        match bytes.filter(|bytes| i64::try_from(*bytes).is_ok()) {
            Some(bytes) => Ok(Bytes(bytes)),
            None => Err(Misread::new(format!("the size \"{}\" is out of range", shown(text)))),
        }
    }
}

impl Spelled for Bytes {
    const WORDS: &'static str = "size, as \"256KiB\", \"2MB\" or bytes";
    const PATTERN: Option<&'static str> = Some("^[0-9]+ ?([KMG]iB|[kKMG]?B)?$");
    const BARE: bool = true;

    fn from_integer(number: i128) -> Result<Bytes, Misread> {
        match i64::try_from(number).map(u64::try_from) {
            Ok(Ok(bytes)) => Ok(Bytes(bytes)),
            _ => Err(Misread::new(format!("the size {number} is out of range"))),
        }
    }

    fn as_integer(&self) -> Option<u64> {
        if self.unit().is_some() { None } else { Some(self.0) }
    }
}

/// A share in percent, 0 to 100, written `50` or `"50%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for Percent {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Percent, Misread> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let digits = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        match number.parse::<u8>() {
            Ok(share) if digits && share <= 100 => Ok(Percent(share)),
            _ => Err(Misread::new(format!("\"{}\" is not a share in percent", shown(text)))
                .advise("write a whole number from 0 to 100: \"50%\"")),
        }
    }
}

impl Spelled for Percent {
    const WORDS: &'static str = "percent, as 50 or \"50%\"";
    const PATTERN: Option<&'static str> = Some("^(100|[0-9]{1,2})%?$");
    const BARE: bool = true;

    fn from_integer(number: i128) -> Result<Percent, Misread> {
        number.to_string().parse()
    }
}

spelled!(Bytes, Percent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("256KiB", 262_144),
            ("2MB", 2_000_000),
            ("2MiB", 2_097_152),
            ("1 GB", 1_000_000_000),
            ("7", 7),
            ("7B", 7),
            ("3kB", 3_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for text in ["256KiB", "2MB", "1GiB", "7", "0"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_size_or_share_is_refused() {
        for text in ["", "KiB", "-1", "1.5MB", "1  MB", "1mb", "1TB", "99999999999GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        for text in ["", "%", "101", "-1", "+5", "1.5%", "50 %", "256", "0050"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        assert_eq!("50%".parse(), Ok(Percent(50)));
    }
}
