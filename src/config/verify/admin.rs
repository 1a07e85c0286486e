//! What `[admin]` must hold beyond its single values: paths that the kernel takes, addresses that nothing else has, and a token for
//! whoever comes over a network.

use std::path::Path;

use super::{Address, Complaints, Config, claims};
use crate::config::value::token;
use crate::config::{Admin, AdminListen};
use crate::tls::certificate::server_config;

pub(super) fn admin(config: &Config, complaints: &mut Complaints) {
    complaints.below(&["admin"], |complaints| {
        for (index, listen) in config.admin.listen.iter().enumerate() {
            let at = ["listen", &index.to_string()];
            if let AdminListen::Unix(path) = listen {
                complaints.socket_path(&at, &Address::Unix(path.clone()));
            }
        }
        let is_socket = |one: &&AdminListen| !matches!(one, AdminListen::Tcp(_));
        if config.admin.listen.iter().filter(is_socket).count() > 1 {
            let message = "there is one Unix socket, or none";
            complaints.error(&["listen"], message, "write one \"unix:/path\", or \"off\"");
        }
        over_tcp(&config.admin, complaints);
        addresses(config, complaints);
    });
}

/// Who may ask over a network, and from where.
fn over_tcp(admin: &Admin, complaints: &mut Complaints) {
    let of_tcp = |listen: &AdminListen| match listen {
        AdminListen::Tcp(address) => Some(*address),
        AdminListen::Unix(_) | AdminListen::Off => None,
    };
    let addresses: Vec<_> = admin.listen.iter().filter_map(of_tcp).collect();
    match (&admin.token_file, addresses.is_empty()) {
        (None, false) => {
            let message = "over TCP, whoever asks must show a token";
            let advice = "write one into a file of mode 0600, as `openssl rand -hex 32 > admin.token` does, and name that: token-file = \"admin.token\"";
            complaints.error(&["listen"], message, advice);
        }
        (Some(_), true) => {
            let advice = "add an address to `listen`, as \"127.0.0.1:9900\"";
            complaints.warning(&["token-file"], "nothing listens where the token counts", advice);
        }
        (Some(file), false) => token_file(file, complaints),
        (None, true) => {}
    }
    for address in addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()) {
        if !admin.public && admin.tls.is_none() {
            let message =
                format!("other machines can reach {address}, and read the token on its way");
            let advice = "listen at a loopback address, as \"127.0.0.1:9900\"; or add `tls`; or say `public = true`";
            complaints.error(&["listen"], message, advice);
        }
    }
    if let Some(tls) = &admin.tls {
        match server_config(&tls.files()) {
            Err(flaw) => complaints.error(&["tls", flaw.part.key()], flaw.message, flaw.advice),
            Ok(_) if addresses.is_empty() => {
                let advice = "add an address to `listen`, as \"127.0.0.1:9900\"";
                complaints.warning(&["tls"], "nothing listens where TLS counts", advice);
            }
            Ok(_) => {}
        }
    }
    for (index, host) in admin.hosts.iter().enumerate() {
        if !crate::config::value::is_host_name(host) {
            let message = "this is not the name of a host";
            let advice = "write the name alone, without a port: \"lb1.example.com\"";
            complaints.error(&["hosts", &index.to_string()], message, advice);
        }
    }
}

fn token_file(file: &Path, complaints: &mut Complaints) {
    match token::read(file) {
        Err(problem) => {
            let advice = "write one token into it, as `openssl rand -hex 32` makes it";
            complaints.error(&["token-file"], problem, advice);
        }
        Ok(_) if token::is_open_to_others(file) => {
            let message = format!("others than its user may read {}", file.display());
            let advice = format!("chmod 600 {}", file.display());
            complaints.warning(&["token-file"], message, advice);
        }
        Ok(_) => {}
    }
}

fn addresses(config: &Config, complaints: &mut Complaints) {
    let [ready, metrics] = [("ready", &config.admin.ready), ("metrics", &config.admin.metrics)];
    for (key, address) in [ready, metrics] {
        if let Some(Address::Unix(_)) = address {
            let message = format!("`{key}` is for those who ask over a network");
            complaints.error(&[key], message, "write an address, as \"127.0.0.1:9901\"");
        }
    }
    let listen = config.tcp.values().flat_map(|listener| &listener.listen);
    let listen = listen.chain(config.http.values().flat_map(|listener| &listener.listen));
    let mut taken: Vec<_> = listen.flat_map(claims).collect();
    let listens = config.admin.listen.iter().filter_map(|listen| match listen {
        AdminListen::Unix(path) => Some(Address::Unix(path.clone())),
        AdminListen::Tcp(address) => Some(Address::Ip(*address)),
        AdminListen::Off => None,
    });
    let own: Vec<_> = listens.map(|address| ("listen", address)).collect();
    let asked = [ready, metrics].into_iter().filter_map(|(key, at)| Some((key, at.clone()?)));
    for (key, address) in own.iter().cloned().chain(asked) {
        if claims(&address).iter().any(|claim| taken.contains(claim)) {
            let message = "a listener has this address";
            complaints.error(&[key], message, "let one of them listen elsewhere");
        }
        if key == "listen" {
            taken.extend(claims(&address));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    const REST: &str = "[upstream.app]\nbackends = \"127.0.0.1:1\"\n[tcp.public]\nlisten = \"127.0.0.1:9901\"\nupstream = \"app\"\n";

    fn problems(admin: &str) -> String {
        let config = Config::parse(&format!("[admin]\n{admin}\n{REST}"));
        let problems = config.and_then(|config| config.verify_or_problems());
        problems.map_or_else(|problems| problems.to_string(), |_| String::new())
    }

    #[test]
    fn an_address_for_metrics_is_of_a_network_and_of_no_listener() {
        assert!(problems("metrics = \"unix:/a.sock\"").contains("`metrics` is for those who ask"));
        assert!(problems("metrics = \"127.0.0.1:9901\"").contains("a listener has this address"));
        assert_eq!(problems("metrics = \"127.0.0.1:9902\"\nready = \"127.0.0.1:9902\""), "");
    }
}
