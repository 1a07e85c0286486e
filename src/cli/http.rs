//! `evenkeel http`: an HTTP load balancer from the command line alone.
//! It builds the same config that a file would, so that every default and every check is the same.

use super::run::serve;
use super::tcp::Balancer;
use crate::config::HttpListener;

pub(super) fn http(arguments: Balancer) -> u8 {
    let (mut config, listen) = arguments.into_config();
    let listener = HttpListener { upstream: Some("backends".into()), ..HttpListener::new(listen) };
    config.http.insert("http".into(), listener);
    serve(config)
}
