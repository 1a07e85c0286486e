//! What `[log]` must hold beyond its single values: something that is written, in one place, and files that are begun anew neither
//! all the time nor never.

use std::time::Duration;

use super::Complaints;
use crate::config::{AccessTo, Bytes, Config, LogTo, Rotation};

/// As much as is written at one time, twice.
const SIZE_LEAST: Bytes = Bytes::kib(64);

/// The longest name of a program (RFC 5424 6).
const NAME_MAX: usize = 48;

pub(super) fn verify(config: &Config, complaints: &mut Complaints) {
    complaints.below(&["log"], |complaints| {
        let log = &config.log;
        if !super::JOURNAL_BYTES.contains(&log.journal_size.0) {
            let advice = "write a size from 64KiB to 1GiB";
            complaints.error(&["journal-size"], "no journal is of this size", advice);
        }
        if let Some(skip) = &log.access_skip
            && skip.path.is_empty()
            && skip.status.is_empty()
        {
            let advice = "name a path or a status; access = \"off\" is for no lines at all";
            complaints.error(&["access-skip"], "this would skip every request", advice);
        }
        if log.file.is_some() && log.to != LogTo::Stderr {
            let message = format!("diagnostics go to a file, so they do not go to \"{}\"", log.to);
            complaints.error(&["to"], message, "keep one of `file` and `to`");
        }
        if let Some(rotation) = &log.rotate {
            rotate(rotation, complaints);
            if log.file.is_none() && !matches!(log.access, AccessTo::File(_)) {
                let message = "no log goes to a file, so there is nothing to rotate";
                complaints.warning(&["rotate"], message, "set `file` or `access`, or remove this");
            }
        }
        let name = &log.syslog.name;
        if !(1..=NAME_MAX).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "this cannot be the name of a program in a syslog";
            let advice = "write 1 to 48 letters, digits and signs of ASCII, without spaces";
            complaints.error(&["syslog", "name"], message, advice);
        }
    });
}

fn rotate(rotation: &Rotation, complaints: &mut Complaints) {
    if rotation.size.is_none() && rotation.every.is_none() {
        let advice = "write a size, as \"100MB\", or a time, as every = \"1d\"";
        complaints.error(&["rotate"], "this does not say when a new file begins", advice);
    }
    if let Some(size) = rotation.size.filter(|size| *size < SIZE_LEAST) {
        let message = format!("a log file must be let grow to {SIZE_LEAST} at least, not {size}");
        complaints.error(&["rotate", "size"], message, "write a larger size, as \"100MB\"");
    }
    if rotation.every.is_some_and(|every| every.0 < Duration::from_secs(1)) {
        let message = "a log file must be let have a second at least";
        complaints.error(&["rotate", "every"], message, "write a longer time, as \"1d\"");
    }
    complaints.below(&["rotate"], |complaints| complaints.within("keep", rotation.keep, 1..=999));
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, verify};

    fn said(log: &str) -> Vec<String> {
        let text =
            format!("[log]\n{log}\n[http.web]\nlisten = \":1\"\n[[http.web.route]]\nreply = 404\n");
        let config = Config::parse(&text);
        match config {
            Ok(config) => verify(&config).into_iter().map(|it| it.message).collect(),
            Err(problems) => vec![problems.to_string()],
        }
    }

    #[test]
    fn what_could_not_be_meant_is_told() {
        for (log, word) in [
            ("access-skip = {}", "skip every request"),
            ("file = \"a.log\"\nto = \"journald\"", "keep one of"),
            ("access = \"a.log\"\nrotate = {}", "when a new file begins"),
            ("access = \"a.log\"\nrotate = { size = \"1KiB\" }", "64KiB"),
            ("access = \"a.log\"\nrotate = { every = \"1ms\" }", "a second"),
            ("access = \"a.log\"\nrotate = { every = \"1d\", keep = 0 }", "keep"),
            ("rotate = { every = \"1d\" }", "nothing to rotate"),
            ("syslog = { name = \"two words\" }", "name of a program"),
        ] {
            let said = said(log);
            assert!(said.len() == 1 && said[0].contains(word), "{log}: {said:?}");
        }
        let fine =
            "file = \"b.log\"\naccess = \"syslog\"\nrotate = { size = \"1MB\", every = \"1d\" }";
        assert_eq!(said(fine), [""; 0]);
    }
}
