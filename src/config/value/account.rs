//! A user or a group of the system, by name or by number. Whether there is such a one is not known here: that is looked up
//! in `config::accounts`, so that reading a config asks the system nothing.

use std::fmt;
use std::str::FromStr;

use super::{Spelled, spelled};
use crate::config::problem::Misread;

/// A user or a group: `"www-data"`, `33`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(String);

impl Account {
    /// As it is written: a name, or the digits of a number.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number, if that is what is written. Names of digits alone are none.
    pub fn number(&self) -> Option<u32> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Account {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Account, Misread> {
        let is_one = !text.is_empty() && text.len() <= 255 && text != "4294967295";
        if !is_one || text.contains(|letter: char| letter.is_control() || ":/ ".contains(letter)) {
            let misread = Misread::new("this cannot be the name of a user or a group");
            return Err(misread.advise("write a name, or a number up to 4294967294"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_err() {
            return Err(out_of_range());
        }
        Ok(Account(text.to_owned()))
    }
}

fn out_of_range() -> Misread {
    Misread::new("there are no users and groups of such a number")
        .advise("a number is 0 to 4294967294")
}

impl Spelled for Account {
    const WORDS: &'static str = "a name or a number";
    const BARE: bool = true;

    fn from_integer(number: i128) -> Result<Account, Misread> {
        let number = u32::try_from(number).ok().map(|number| number.to_string().parse());
        number.unwrap_or_else(|| Err(out_of_range()))
    }

    fn as_integer(&self) -> Option<u64> {
        self.number().map(u64::from)
    }
}

spelled!(Account);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number() {
        let read = |text: &str| text.parse::<Account>();
        assert_eq!(read("www-data").unwrap().number(), None);
        assert_eq!(read("33").unwrap().number(), Some(33));
        assert_eq!(Account::from_integer(0).unwrap().number(), Some(0));
        // The system takes the last number for "no change".
        for wrong in ["", "a b", "a:b", "../x", "4294967295", "4294967296", "a\n"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(Account::from_integer(-1).is_err());
    }
}
