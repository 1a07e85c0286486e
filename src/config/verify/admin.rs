//! What `[admin]` must hold beyond its single values: paths that the kernel takes, and an address that nothing else has.

use super::{Address, Complaints, Config, claims};
use crate::config::AdminListen;

pub(super) fn admin(config: &Config, complaints: &mut Complaints) {
    complaints.below(&["admin"], |complaints| {
        let socket = match &config.admin.listen {
            Some(AdminListen::Unix(path)) => Some(Address::Unix(path.clone())),
            Some(AdminListen::Off) | None => None,
        };
        if let Some(socket) = &socket {
            complaints.socket_path(&["listen"], socket);
        }
        let [ready, metrics] = [("ready", &config.admin.ready), ("metrics", &config.admin.metrics)];
        for (key, address) in [ready, metrics] {
            if let Some(Address::Unix(_)) = address {
                let message = format!("`{key}` is for those who ask over a network");
                complaints.error(&[key], message, "write an address, as \"127.0.0.1:9901\"");
            }
        }
        let listen = config.tcp.values().flat_map(|listener| &listener.listen);
        let listen = listen.chain(config.http.values().flat_map(|listener| &listener.listen));
        let taken: Vec<_> = listen.flat_map(claims).collect();
        for (key, own) in [("listen", &socket), ready, metrics] {
            if own.iter().flat_map(claims).any(|claim| taken.contains(&claim)) {
                let message = "a listener has this address";
                complaints.error(&[key], message, "let one of them listen elsewhere");
            }
        }
    });
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
