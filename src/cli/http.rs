//! `evenkeel http`: an HTTP load balancer from the command line alone.
//! It builds the same config that a file would, so that every default and every check is the same.

use std::path::PathBuf;

use super::place::Place;
use super::run::serve;
use super::tcp::Balancer;
use crate::config::{HttpListener, Route, TryUpstream};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    balancer: Balancer,
    /// Serve a file of this folder where there is one, and ask the backends for everything else.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
}

pub(super) fn http(arguments: Arguments, place: Place) -> u8 {
    let (mut config, listen) = arguments.balancer.into_config();
    let mut listener = HttpListener::new(listen);
    match arguments.files {
        None => listener.upstream = Some("backends".into()),
        Some(folder) => listener.route.push(Route {
            files: Some(folder),
            r#try: Some(TryUpstream("backends".into())),
            ..Route::default()
        }),
    }
    config.http.insert("http".into(), listener);
    serve(config, None, place, None)
}
