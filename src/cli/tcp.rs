//! `evenkeel tcp`: a TCP load balancer from the command line alone.
//! It builds the same config that a file would, so that every default and every check is the same.

use super::place::Place;
use super::run::serve;
use crate::config::{AccessTo, Address, Backend, Balance, Config, Level, TcpListener, Upstream};

/// What can be said without a file, for TCP and HTTP alike.
#[derive(Debug, clap::Args)]
pub(super) struct Balancer {
    /// Where to listen: IP:PORT, [IP6]:PORT, :PORT for all addresses, or unix:/path. May be repeated.
    #[arg(long, required = true, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// The backends, with commas between; *N after one is its weight. NAME:PORT means every address of the name.
    #[arg(long, required = true, value_name = "BACKENDS", value_delimiter = ',', value_parser = backend)]
    to: Vec<Backend>,
    /// Which backend the next connection or request goes to: round-robin, random, least-connections, power-of-two,
    /// least-latency, hash (by client address), first.
    #[arg(long, default_value = "round-robin")]
    balance: Balance,
    /// Print no access lines.
    #[arg(short, long)]
    quiet: bool,
    /// The least severe diagnostics to print.
    #[arg(long, default_value = "info")]
    log_level: Level,
}

/// `ADDRESS` or `ADDRESS*WEIGHT`.
fn backend(text: &str) -> Result<Backend, String> {
    let (address, weight) = match text.rsplit_once('*') {
        Some((address, weight)) => {
            let weight =
                weight.parse().map_err(|_| format!("the weight `{weight}` is not a number"))?;
            (address, weight)
        }
        None => (text, 1),
    };
    let address: Address = address.trim().parse().map_err(|error| format!("{error}"))?;
    Ok(Backend { weight, ..Backend::new(address) })
}

impl Balancer {
    /// A config with the upstream `backends` and no listener yet, and where that shall listen.
    pub(super) fn into_config(self) -> (Config, Vec<Address>) {
        let mut config = Config::default();
        config.log.level = self.log_level;
        if self.quiet {
            config.log.access = AccessTo::Off;
        }
        let upstream = Upstream { balance: self.balance, ..Upstream::new(self.to) };
        config.upstream.insert("backends".into(), upstream);
        (config, self.listen)
    }
}

pub(super) fn tcp(arguments: Balancer, place: Place) -> u8 {
    let (mut config, listen) = arguments.into_config();
    config.tcp.insert(
        "tcp".into(),
        TcpListener { upstream: Some("backends".into()), ..TcpListener::new(listen) },
    );
    serve(config, None, place, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_gives_a_backend_its_weight() {
        assert_eq!(backend("10.0.0.2:80*2").unwrap().weight, 2);
        assert_eq!(backend("[2001:db8::1]:80").unwrap().weight, 1);
        assert!(backend("10.0.0.2:80*x").unwrap_err().contains("weight"));
    }
}
