//! What a config says of the process as a whole that the system has a say in: who it becomes, and where its words go once
//! nobody reads its standard error. What only a start can find out is not judged here.

use super::Complaints;
use crate::config::accounts::Identity;
use crate::config::{AccessTo, Bytes, Config, LogTo};

/// With less, nobody could be served.
const MEMORY_LEAST_KIB: u64 = 16 * 1024;

pub(super) fn verify(config: &Config, complaints: &mut Complaints) {
    if let Err(unknown) = Identity::find(&config.process) {
        complaints.error(&["process", unknown.key], unknown.message, unknown.advice);
    }
    let least = Bytes::kib(MEMORY_LEAST_KIB);
    if let Some(most) = config.process.memory_max.filter(|most| *most < least) {
        let message = format!("memory-max must be at least {least}, not {most}");
        complaints.error(&["process", "memory-max"], message, "leave it out for the default");
    }
    if !config.process.daemon {
        return;
    }
    if config.log.file.is_none() && config.log.to == LogTo::Stderr {
        let message = "a daemon has no standard error, so nobody will see its diagnostics";
        let advice = "add file = \"/var/log/evenkeel/evenkeel.log\" to [log]";
        complaints.warning(&["process", "daemon"], message, advice);
    }
    if matches!(config.log.access, AccessTo::Stdout | AccessTo::Stderr) {
        let message = "a daemon has no standard output, so the access log goes nowhere";
        let advice = "set access = \"off\" or a file in [log]";
        complaints.warning(&["process", "daemon"], message, advice);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Severity, verify};

    fn said(text: &str) -> Vec<(Severity, String)> {
        let listener = "[http.web]\nlisten = \":1\"\n[[http.web.route]]\nreply = 404\n";
        let config = Config::parse(&format!("{text}\n{listener}")).unwrap();
        verify(&config).into_iter().map(|it| (it.severity, it.message)).collect()
    }

    #[test]
    fn a_daemon_whose_words_would_be_lost_is_warned_of() {
        let lost = said("[process]\ndaemon = true");
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(lost.iter().all(|(severity, _)| *severity == Severity::Warning), "{lost:?}");
        assert!(lost[0].1.contains("diagnostics") && lost[1].1.contains("access log"), "{lost:?}");
        let kept = "[process]\ndaemon = true\n[log]\nfile = \"a.log\"\naccess = \"b.log\"";
        assert_eq!(said(kept), []);
        assert_eq!(said(""), []);
    }

    #[test]
    fn an_unknown_user_is_a_problem_of_the_config() {
        let text = "process.user = \"no-such-user\"\n[http.web]\nlisten = \":1\"\n\
                    [[http.web.route]]\nreply = 404\n";
        let problems = Config::parse(text).unwrap_err().to_string();
        assert!(problems.contains("there is no user \"no-such-user\""), "{problems}");
        assert!(problems.contains("useradd"), "{problems}");
    }
}
