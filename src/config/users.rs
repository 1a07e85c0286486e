//! The file of users and their hashed passwords, as `htpasswd -B` writes it. Read as a whole or not at all: a line that is
//! not understood, or a password that is not hashed well, is told with its number, and nobody is let in by half a file.
//! The hash itself must never stand in a message.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::problem::shown;

/// The largest file: some ten thousand users.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The largest cost, which takes some seconds for each check: beyond it nobody would get in.
const COST_MAX: u32 = 16;

/// Users with their hashes, checked already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    by_name: HashMap<String, String>,
}

impl Users {
    /// Reads a file; all that is wrong with it, each with its line, or what the system said.
    pub fn from_file(path: &Path) -> Result<Users, Vec<String>> {
        let name = shown(&path.display().to_string());
        let failed = |error: std::io::Error| vec![format!("{name}: {error}")];
        let file = crate::keeper::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(vec![format!("{name} is larger than 1MiB")]);
        }
        Users::parse(&text).map_err(|problems| {
            let told = |(line, problem): (usize, String)| format!("{name}:{line}: {problem}");
            problems.into_iter().map(told).collect()
        })
    }

    /// The same for a text; problems with the numbers of their lines.
    pub fn parse(text: &str) -> Result<Users, Vec<(usize, String)>> {
        let (mut users, mut problems) = (Users::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let outcome = user(line).and_then(|(user, hash)| {
                match users.by_name.insert(user.to_owned(), hash.to_owned()) {
                    Some(_) => Err(format!("the user \"{}\" stands here twice", shown(user))),
                    None => Ok(()),
                }
            });
            problems.extend(outcome.err().map(|problem| (index + 1, problem)));
        }
        if users.by_name.is_empty() && problems.is_empty() {
            problems.push((1, "there is no user in it".to_owned()));
        }
        if problems.is_empty() { Ok(users) } else { Err(problems) }
    }

    /// The hash of a user's password.
    pub fn hash_of(&self, user: &str) -> Option<&str> {
        self.by_name.get(user).map(String::as_str)
    }

    /// Some hash, to be checked against for users that do not exist: they must not be told by the time it takes.
    pub fn any_hash(&self) -> Option<&str> {
        self.by_name.values().next().map(String::as_str)
    }
}

fn user(line: &str) -> Result<(&str, &str), String> {
    let Some((user, hash)) = line.split_once(':') else {
        return Err("this is not USER:HASH".to_owned());
    };
    if user.is_empty() || user.len() > 255 || user.contains(char::is_control) {
        return Err("this is not the name of a user".to_owned());
    }
    // `2x` marks hashes of a faulty version.
    let is_bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| hash.starts_with(prefix));
    let parts = if is_bcrypt { hash.parse::<bcrypt::HashParts>().ok() } else { None };
    let name = shown(user);
    match parts.map(|parts| parts.get_cost()) {
        Some(4..=COST_MAX) => Ok((user, hash)),
        Some(cost) => {
            let range = format!("4 to {COST_MAX}");
            Err(format!("the hash of \"{name}\" has the cost {cost}, which is not {range}"))
        }
        None => Err(format!("the password of \"{name}\" is not hashed with bcrypt")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

    #[test]
    fn users_come_with_their_hashes() {
        let users = Users::parse(&format!("# staff\n\nann:{HASH}\r\nbob b:{HASH}\n")).unwrap();
        assert_eq!(users.hash_of("ann"), Some(HASH));
        assert_eq!((users.hash_of("bob b"), users.hash_of("eve")), (Some(HASH), None));
    }

    #[test]
    fn whatever_is_not_a_good_hash_is_told_with_its_line_and_not_shown() {
        let costly = HASH.replace("$05$", "$31$");
        for (line, problem) in [
            ("ann:secret".to_owned(), "the password of \"ann\" is not hashed with bcrypt"),
            ("ann:$apr1$x$secret".to_owned(), "the password of \"ann\" is not hashed with bcrypt"),
            ("ann:{SHA}secret=".to_owned(), "the password of \"ann\" is not hashed with bcrypt"),
            (format!("ann:{}", &HASH[..59]), "the password of \"ann\" is not hashed with bcrypt"),
            (format!("ann:{HASH}:1"), "the password of \"ann\" is not hashed with bcrypt"),
            (format!("ann:{costly}"), "the hash of \"ann\" has the cost 31, which is not 4 to 16"),
            ("secret".to_owned(), "this is not USER:HASH"),
            (format!(":{HASH}"), "this is not the name of a user"),
            (format!("a:{HASH}\na:{HASH}"), "the user \"a\" stands here twice"),
        ] {
            let problems = Users::parse(&line).unwrap_err();
            let number = line.lines().count();
            assert_eq!(problems, [(number, problem.to_owned())], "{line}");
            assert!(!problem.contains("secret"));
        }
        assert_eq!(Users::parse("\n#\n").unwrap_err()[0].1, "there is no user in it");
    }
}
