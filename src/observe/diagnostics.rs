//! Diagnostics: what the process says about itself on standard error, by `tracing`.
//! The level comes from `[log] level` or the environment; access lines never go this way.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable that overrides `[log] level`, in the syntax of tracing's `EnvFilter`.
pub(crate) const LEVEL_VARIABLE: &str = "EVENKEEL_LOG";

/// Starts writing diagnostics. Does nothing when the embedding program has set up its own.
pub(crate) fn start(level: &str, json: bool) {
    let wished = std::env::var(LEVEL_VARIABLE).ok().filter(|wish| !wish.is_empty());
    let wished = wished.map(EnvFilter::try_new).transpose();
    let (filter, complaint) = match wished {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("evenkeel={level}")));
    let in_color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json {
        layer.json().try_init()
    } else {
        layer.with_target(false).with_ansi(in_color).try_init()
    };
    if let Some(error) = complaint {
        tracing::warn!("{LEVEL_VARIABLE} is ignored: {error}; write a level, as `debug`");
    }
}
