//! Lengths of time, written with their units so that nobody has to know whether it is seconds or
//! milliseconds. A bare number is refused for the same reason.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// Units from large to small, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
/// A hundred years: a clock can be moved by that much without leaving its range.
const DAYS_MAX: u64 = 36_500;
const PATTERN: &str = "^([0-9]+(d|h|m|s|ms|us|ns))+$";

/// A length of time, written with its unit: `"3s"`, `"250ms"`, `"10m"`, `"1h30m"`, `"2d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    /// That many seconds.
    pub const fn seconds(n: u64) -> Time {
        Time(Duration::from_secs(n))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let count = rest / size;
            rest %= size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Time {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Time, Misread> {
        let wrong = || {
            Misread::new(format!("\"{}\" is not a time", shown(text)))
                .advise("write whole numbers with units, from d, h, m, s, ms: \"1h30m\", \"250ms\"")
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unitless(text));
        }
        let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0u128);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            // Looking on from the last unit keeps them in order and each to its one place.
            let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = total.saturating_add(u128::from(number).saturating_mul(*size));
            rest = after;
        }
        let seconds = total / 1_000_000_000;
        let nanoseconds = (total % 1_000_000_000) as u32;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds <= DAYS_MAX * 86_400 => {
                Ok(Time(Duration::new(seconds, nanoseconds)))
            }
            _ => Err(Misread::new(format!("\"{}\" is over {DAYS_MAX} days", shown(text)))),
        }
    }
}

fn unitless(number: &str) -> Misread {
    let number = shown(number);
    Misread::new(format!("the time {number} has no unit"))
        .advise(format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"))
}

impl Spelled for Time {
    const WORDS: &'static str = "time, as \"3s\" or \"250ms\"";
    const PATTERN: Option<&'static str> = Some(PATTERN);

    fn from_integer(number: i128) -> Result<Time, Misread> {
        Err(unitless(&number.to_string()))
    }
}

/// A length of time, or `"off"` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

impl Limit {
    /// That many seconds.
    pub const fn seconds(n: u64) -> Limit {
        Limit(Some(Duration::from_secs(n)))
    }

    /// No limit.
    pub const OFF: Limit = Limit(None);
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => Time(time).fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for Limit {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Limit, Misread> {
        match text {
            "off" => Ok(Limit::OFF),
            _ => text.parse().map(|time: Time| Limit(Some(time.0))),
        }
    }
}

impl Spelled for Limit {
    const WORDS: &'static str = "time, as \"10m\", or \"off\"";
    const PATTERN: Option<&'static str> =
        Some("^off$|^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?([0-9]+ns)?$");

    fn from_integer(number: i128) -> Result<Limit, Misread> {
        Err(unitless(&number.to_string()))
    }
}

spelled!(Time, Limit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, milliseconds) in
            [("3s", 3_000), ("250ms", 250), ("10m", 600_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(text.parse(), Ok(Time(Duration::from_millis(milliseconds))));
        }
        assert_eq!("2d".parse(), Ok(Time::seconds(172_800)));
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for text in ["3s", "250ms", "10m", "1h30m", "2d", "1d2h3m4s5ms6us7ns", "0s"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert_eq!("off".parse::<Limit>().unwrap().to_string(), "off");
        assert_eq!("90s".parse::<Limit>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn a_number_without_a_unit_is_told_to_take_one() {
        let wrong = "30".parse::<Time>().unwrap_err();
        assert_eq!(wrong.advice.unwrap(), "write \"30s\" for seconds or \"30ms\" for milliseconds");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        let far = "9".repeat(40) + "d";
        for text in
            ["", "s", "3", "3 s", "-3s", "1.5s", "3m1h", "3s3s", "3S", "1e3s", "99999999d", &far]
        {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
