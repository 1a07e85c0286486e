//! What a config needs of the system once it serves: which files and folders, to read or to write, and which ports. A test holds that no
//! key with a path is forgotten. A folder is meant with all that is in it, since files are replaced by others of the same name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Surroundings;
use crate::config::{
    AccessTo, Acme, Address, AdminListen, Config, HttpListener, LogTo, Route, SyslogAt, Tls,
    Upstream,
};

/// The port of DNS (RFC 1035 4.2.2).
const DNS: u16 = 53;
/// The ports of HTTP and HTTPS (RFC 9110 4.2).
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Files of the system that are read by what we are made of: look-ups of names, hosts and users, trusted authorities.
const OF_THE_SYSTEM: [&str; 17] = [
    "/dev/null",
    "/dev/urandom",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/proc",
    "/sys/fs/cgroup",
    "/usr/lib/ssl",
    "/usr/share",
];

/// Where certificates and files to serve usually are: a reload may begin to use them, unless it is `strict`.
const USUAL: [&str; 4] = ["/etc/letsencrypt", "/srv", "/usr/local/share", "/var/www"];

/// What is needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Folders, and single files.
    pub(super) read: BTreeSet<PathBuf>,
    /// Folders in which files are made and removed, and single files.
    pub(super) write: BTreeSet<PathBuf>,
    /// Folders in which sockets are made and removed.
    pub(super) sockets: BTreeSet<PathBuf>,
    /// Ports to listen on and to connect to; none where any may be.
    pub(super) ports: Option<Ports>,
}

/// TCP ports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) listen: BTreeSet<u16>,
    pub(super) connect: BTreeSet<u16>,
}

impl Needs {
    pub(super) fn of(config: &Config, around: &Surroundings, is_strict: bool) -> Needs {
        let mut needs = Needs::default();
        let usual = USUAL.iter().filter(|_| !is_strict);
        needs.read.extend(OF_THE_SYSTEM.iter().chain(usual).map(PathBuf::from));
        // For the names of functions where something went wrong.
        needs.read.extend(std::env::current_exe());
        named(config).iter().chain(&around.config).for_each(|file| needs.read_beside(file));
        for root in roots(config) {
            needs.read.extend(links(root).filter(|folder| !is_shared(folder)));
            needs.read.insert(there(root));
        }
        let written = logs(config).chain(config.process.pid_file.as_deref());
        let sockets = addresses(config).filter_map(|address| match address {
            Address::Unix(path) => Some(path.as_path()),
            _ => None,
        });
        written.for_each(|file| needs.write_beside(file));
        let sockets = sockets.chain(around.sockets.iter().map(PathBuf::as_path));
        needs.sockets.extend(sockets.filter_map(|socket| Some(socket.parent()?.to_owned())));
        needs.write.extend(acme(config).map(|acme| there(&acme.state)));
        if is_strict {
            needs.ports = Some(ports(config));
        }
        needs
    }

    /// What another config has that is not among this, in words.
    pub(super) fn lack(&self, config: &Config) -> Option<String> {
        let is_within = |path: &Path, granted: &BTreeSet<PathBuf>| {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            granted
                .iter()
                .any(|folder| path.starts_with(folder.canonicalize().as_ref().unwrap_or(folder)))
        };
        let root = roots(config).find(|root| !is_within(root, &self.read));
        let state = acme(config).map(|acme| acme.state.as_path());
        let state = { state }.find(|state| !is_within(state, &self.write));
        if let Some(folder) = root.or(state) {
            return Some(format!("the folder {} is", folder.display()));
        }
        let granted = self.ports.as_ref()?;
        let port =
            ports(config).connect.into_iter().find(|port| !granted.connect.contains(port))?;
        Some(format!("connecting to port {port} is"))
    }

    fn read_beside(&mut self, file: &Path) {
        self.read.extend(around(file));
    }

    fn write_beside(&mut self, file: &Path) {
        self.write.extend(around(file));
    }
}

/// Where a file is, so that another one may take its place, and where links on the way to it lead. In a folder that has much else
/// in it, the file alone.
fn around(file: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = if file.is_dir() { Some(file) } else { file.parent() };
    let own = folder.filter(|folder| !is_shared(folder)).map(Path::to_owned);
    let target =
        file.canonicalize().ok().filter(|target| is_shared(target.parent().unwrap_or(target)));
    let alone = own.is_none().then(|| file.to_owned());
    let led = links(file).filter(|folder| !is_shared(folder));
    own.into_iter().chain(alone).chain(target).chain(led)
}

/// The folders of links that a path goes through, and of what they lead to: tomorrow they may lead to its neighbour, as those of a
/// release or of a renewed certificate do.
fn links(path: &Path) -> impl Iterator<Item = PathBuf> {
    let steps = path.ancestors().filter(|step| step.is_symlink());
    steps.flat_map(|link| {
        let folder = |path: &Path| path.parent().map(Path::to_owned);
        let target = link.canonicalize().ok();
        [folder(link), target.and_then(|target| folder(&target))].into_iter().flatten()
    })
}

/// A folder, or the nearest one above that is there: it may come later.
fn there(folder: &Path) -> PathBuf {
    let mut above = folder.ancestors().skip(1);
    if folder.exists() {
        return folder.to_owned();
    }
    let nearest = above.find(|above| above.exists());
    nearest.filter(|above| !is_shared(above)).unwrap_or(folder).to_owned()
}

/// Whether a folder has much in it that is none of our business: one of the system's, or somebody's home.
fn is_shared(folder: &Path) -> bool {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let depth = folder.components().count();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    // The root counts as one.
    depth <= 2 || (depth == 3 && folder.starts_with("/home")) || home == Some(folder)
}

/// Every file that is read because the config names it, but for files that are served.
pub(crate) fn named(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for tls in tls(config) {
        let own = [&tls.certificate, &tls.key, &tls.ocsp, &tls.ticket_keys];
        files.extend(
            own.into_iter().flatten().chain(&tls.client_ca).chain(&tls.client_crl).cloned(),
        );
        for more in &tls.certificates {
            let own = [&more.certificate, &more.key, &more.ocsp];
            let clients = more.client_ca.iter().chain(&more.client_crl);
            files.extend(own.into_iter().flatten().chain(clients).cloned());
        }
    }
    files.extend(config.admin.token_file.iter().cloned());
    let of_admin = config.admin.tls.iter();
    files.extend(of_admin.flat_map(|tls| [&tls.certificate, &tls.key]).cloned());
    files.extend(acme(config).flat_map(|acme| acme.directory_ca.iter().cloned()));
    for upstream in config.upstream.values() {
        files.extend(upstream.sticky.iter().flat_map(|sticky| sticky.key_file.iter().cloned()));
        if let Some(tls) = upstream.tls.on() {
            files.extend(tls.ca.iter().chain(&tls.certificate).chain(&tls.key).cloned());
        }
    }
    for listener in config.http.values() {
        files.extend(listener.errors.values().cloned());
        files.extend(listener.route.iter().flat_map(of_route).cloned());
    }
    files
}

fn of_route(route: &Route) -> impl Iterator<Item = &PathBuf> {
    let users = route.basic_auth.iter().map(|auth| &auth.users_file);
    let keys = route.split_cookie.iter().flat_map(|cookie| &cookie.key_file);
    route.errors.values().chain(users).chain(keys)
}

/// Folders whose files are served.
fn roots(config: &Config) -> impl Iterator<Item = &Path> {
    let routes = config.http.values().flat_map(|listener: &HttpListener| &listener.route);
    routes.filter_map(|route| route.files.as_deref())
}

/// Files that are written to.
pub(crate) fn logs(config: &Config) -> impl Iterator<Item = &Path> {
    let access = match &config.log.access {
        AccessTo::File(path) => Some(path.as_path()),
        _ => None,
    };
    config.log.file.as_deref().into_iter().chain(access)
}

fn tls(config: &Config) -> impl Iterator<Item = &Tls> {
    let tcp = config.tcp.values().filter_map(|listener| listener.tls.as_ref());
    tcp.chain(config.http.values().filter_map(|listener| listener.tls.as_ref()))
}

/// Every certificate that is to be issued.
pub(crate) fn acme(config: &Config) -> impl Iterator<Item = &Acme> {
    tls(config).flat_map(|tls| {
        tls.acme.iter().chain(tls.certificates.iter().filter_map(|more| more.acme.as_ref()))
    })
}

/// Where it listens.
pub(crate) fn addresses(config: &Config) -> impl Iterator<Item = &Address> {
    let tcp = config.tcp.values().flat_map(|listener| &listener.listen);
    tcp.chain(config.http.values().flat_map(|listener| &listener.listen))
        .chain(&config.admin.ready)
        .chain(&config.admin.metrics)
}

/// Where it listens to operators over TCP.
pub(crate) fn of_operators(config: &Config) -> impl Iterator<Item = Address> {
    config.admin.listen.iter().filter_map(|listen| match listen {
        AdminListen::Tcp(address) => Some(Address::Ip(*address)),
        AdminListen::Unix(_) | AdminListen::Off => None,
    })
}

fn ports(config: &Config) -> Ports {
    // A port of the system's choice, with an address of ours to connect from.
    let mut listen = BTreeSet::from([0]);
    listen.extend(addresses(config).filter_map(Address::port));
    listen.extend(of_operators(config).filter_map(|address| address.port()));
    let backends = config.upstream.values().flat_map(|upstream: &Upstream| &upstream.backends);
    let mut connect = BTreeSet::from([DNS]);
    connect.extend(backends.filter_map(|backend| backend.address.port()));
    connect.extend(config.process.nameservers.iter().map(std::net::SocketAddr::port));
    let collector = config.log.traces.iter();
    connect.extend(collector.map(|collector| port_of(&format!("http://{}", collector.authority))));
    connect.extend(acme(config).map(|acme| port_of(&acme.directory)));
    if let AccessTo::Syslog(SyslogAt::Tcp(address)) = &config.log.access {
        connect.insert(address.port());
    }
    if let LogTo::Syslog(SyslogAt::Tcp(address)) = &config.log.to {
        connect.insert(address.port());
    }
    Ports { listen, connect }
}

/// The port of a URL.
fn port_of(url: &str) -> u16 {
    let parsed = url.parse::<http::Uri>().ok();
    let usual = if url.starts_with("http:") { HTTP } else { HTTPS };
    parsed.and_then(|url| url.port_u16()).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn needs(text: &str, is_strict: bool) -> Needs {
        let around = Surroundings::default();
        Needs::of(&Config::parse(text).unwrap(), &around, is_strict)
    }

    #[test]
    fn ports_are_those_of_the_config() {
        let text = "process.nameservers = [\"127.0.0.1:5353\"]\n\
                    upstream.app.backends = [\"10.0.0.1:8080\", \"app.internal:9000\"]\n\
                    tcp.a = { listen = \":700\", upstream = \"app\" }";
        assert_eq!(needs(text, false).ports, None);
        let ports = needs(text, true).ports.unwrap();
        assert_eq!(ports.listen, BTreeSet::from([0, 700]));
        assert_eq!(ports.connect, BTreeSet::from([53, 5353, 8080, 9000]));
    }

    #[test]
    fn a_folder_of_much_else_is_not_opened_for_one_file_in_it() {
        for common in ["/", "/etc", "/home/somebody", "/run"] {
            assert!(is_shared(Path::new(common)), "{common}");
        }
        assert!(!is_shared(Path::new("/etc/evenkeel")));
        assert_eq!(
            around(Path::new("/etc/evenkeel.toml")).next().unwrap(),
            Path::new("/etc/evenkeel.toml")
        );
        assert_eq!(
            around(Path::new("/etc/evenkeel/a.toml")).next().unwrap(),
            Path::new("/etc/evenkeel")
        );
    }

    #[test]
    fn where_a_link_leads_may_change_within_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let at = |path: &str| folder.join(path);
        for made in ["releases/1/public", "live"] {
            std::fs::create_dir_all(at(made)).unwrap();
        }
        symlink(at("releases/1"), at("live/current")).unwrap();
        let found: Vec<_> = links(&at("live/current/public")).collect();
        assert_eq!(found, [at("live"), at("releases")]);
        assert_eq!(there(&at("releases/2/public")), at("releases"));
    }

    /// Keys whose value is a path, wherever they stand. Whoever adds one adds it to what is needed too.
    const PATHS: [&str; 19] = [
        "access",
        "ca",
        "certificate",
        "client-ca",
        "client-crl",
        "directory-ca",
        "dns-hook",
        "errors",
        "file",
        "files",
        "journal",
        "key",
        "key-file",
        "ocsp",
        "pid-file",
        "state",
        "ticket-keys",
        "token-file",
        "users-file",
    ];

    #[test]
    fn no_key_with_a_path_is_forgotten() {
        let reference = include_str!("../../../docs/reference.md");
        let rows = reference.lines().filter(|row| row.starts_with("| `"));
        let of_paths = rows.filter_map(|row| {
            let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']));
            let (key, kind) = (cells.next()?, cells.next()?);
            let is_path = ["path", "list of: path", "paths by name"].contains(&kind);
            (is_path || kind.ends_with("or a path")).then_some(key)
        });
        let found: BTreeSet<_> = of_paths.collect();
        assert_eq!(found, BTreeSet::from(PATHS));
    }
}
