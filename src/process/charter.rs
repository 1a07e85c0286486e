//! What whoever keeps the rights may do for the serving process: what the config on disk names, read by itself each time that has changed.
//! So it is the operator who says what may be opened, and never the process that strangers speak to.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::out_of_reach;
use super::sandbox::needs;
use crate::config::stamp::{Stamp, stamp, stamps};
use crate::config::{Address, Config};
use crate::observe::log_file::Owner;

/// A config, as far as it grants anything.
#[derive(Debug, Default)]
pub(super) struct Charter {
    /// Where it is; without, nothing is granted.
    config: Option<PathBuf>,
    /// What it was read from, as that was then.
    files: Vec<PathBuf>,
    read: Vec<Stamp>,
    files_to_read: HashSet<PathBuf>,
    logs: HashSet<PathBuf>,
    /// The user it is for, who has fewer rights. Whatever that one could change is no word of the operator's.
    pub(super) serves: Option<Owner>,
    addresses: Vec<Address>,
    hooks: HashSet<PathBuf>,
}

impl Charter {
    pub(super) fn of(config: Option<PathBuf>, serves: Option<Owner>) -> Charter {
        let config = config.and_then(|file| std::path::absolute(file).ok());
        Charter { config, serves, ..Charter::default() }
    }

    pub(super) fn may_read(&mut self, path: &Path) -> bool {
        self.read_anew();
        // The config itself also while it is wrong, so that it can be said what is.
        self.files_to_read.contains(path) || self.config.as_deref() == Some(path)
    }

    pub(super) fn may_append(&mut self, path: &Path) -> bool {
        self.read_anew();
        self.logs.contains(path)
    }

    pub(super) fn may_run(&mut self, program: &Path) -> bool {
        self.read_anew();
        self.hooks.contains(program)
    }

    pub(super) fn may_bind(&mut self, wanted: SocketAddr) -> bool {
        self.read_anew();
        self.addresses.iter().any(|address| match address {
            Address::Ip(ip) => *ip == wanted,
            Address::Port(port) => *port == wanted.port() && wanted.ip().is_unspecified(),
            Address::Name { port, .. } => *port == wanted.port(),
            Address::Unix(_) => false,
        })
    }

    /// Reads the config, if anything of it has changed. One that is wrong grants what the last right one did.
    fn read_anew(&mut self) {
        let Some(file) = &self.config else { return };
        let now = stamps(&self.files);
        if !self.files.is_empty() && now == self.read {
            return;
        }
        let before = stamp(file);
        let Ok(loaded) = Config::from_file(file) else {
            self.read = now;
            return;
        };
        if self.serves.is_some() && !loaded.files.iter().all(|file| is_the_operators(file)) {
            *self =
                Charter { config: self.config.take(), serves: self.serves, ..Charter::default() };
            return;
        }
        let config = &loaded.config;
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let files = needs::named(config);
        self.files_to_read = files.iter().chain(&loaded.files).map(absolute).collect();
        self.logs = needs::logs(config).map(Path::to_owned).collect();
        let of_operators = needs::of_operators(config);
        self.addresses = needs::addresses(config).cloned().chain(of_operators).collect();
        self.hooks = needs::acme(config).filter_map(|acme| acme.dns_hook.clone()).collect();
        self.files = loaded.files.iter().chain(&loaded.folders).map(absolute).collect();
        // What is written meanwhile is read next time.
        self.read = if stamp(file) == before { stamps(&self.files) } else { Vec::new() };
    }
}

/// Whether nobody else can have written a file.
fn is_the_operators(file: &Path) -> bool {
    let resolved = std::path::absolute(file).and_then(|file| out_of_reach::resolved(&file));
    resolved.is_ok_and(|file| out_of_reach::is_closed(&file).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_config_on_disk_names_may_be_had_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = at("evenkeel.toml");
        let write = |key: &str, port: u16, log: &str| {
            let text = format!(
                "[log]\naccess = \"{log}\"\n[upstream.app]\nbackends = \":1\"\n\
                 sticky = {{ cookie = \"at\", key-file = \"{key}\" }}\n\
                 [tcp.a]\nlisten = [\"127.0.0.1:{port}\", \":700\"]\nupstream = \"app\"\n"
            );
            std::fs::write(&config, text).unwrap();
        };
        write("a.key", 80, "stdout");
        let mut charter = Charter::of(Some(config.clone()), None);
        for named in ["evenkeel.toml", "a.key"] {
            assert!(charter.may_read(&at(named)), "{named}");
        }
        let other = [at("b.key"), "/etc/shadow".into(), folder.path().join("x/../a.key")];
        assert!(other.iter().all(|path| !charter.may_read(path)));
        assert!(!charter.may_append(&at("a.key")) && !charter.may_run(&at("a.key")));
        let may_bind =
            |charter: &mut Charter, address: &str| charter.may_bind(address.parse().unwrap());
        assert!(may_bind(&mut charter, "127.0.0.1:80") && may_bind(&mut charter, "[::]:700"));
        assert!(!may_bind(&mut charter, "127.0.0.1:81") && !may_bind(&mut charter, "0.0.0.0:80"));
        // The operator has the last word, also when it is taken back.
        write("longer.key", 8080, "a.log");
        assert!(charter.may_read(&at("longer.key")) && !charter.may_read(&at("a.key")));
        assert!(charter.may_append(&at("a.log")));
        assert!(!may_bind(&mut charter, "127.0.0.1:80"));
        // One that is wrong grants no more than the last right one, but itself: so that it is read what is wrong.
        std::fs::write(&config, "nonsense").unwrap();
        assert!(charter.may_read(&config) && charter.may_read(&at("longer.key")));
        assert!(!charter.may_read(&at("b.key")));
        // For somebody else, a config that everybody can write is nobody's word.
        std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let mut careful = Charter::of(Some(config.clone()), Some((54321, 54321)));
        write("a.key", 80, "stdout");
        assert!(!careful.may_read(&at("a.key")) && !may_bind(&mut careful, "127.0.0.1:80"));
        assert!(!Charter::of(None, None).may_read(&config));
    }
}
