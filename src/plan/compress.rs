//! How a route compresses, compiled.

use crate::{config, http};

/// None where nothing is compressed.
pub(super) fn rules(config: &config::Toggle<config::Compression>) -> Option<http::Compress> {
    let config = config.on()?;
    // A verified config holds only patterns that can be read.
    let types = config.types.iter();
    let types = types.filter_map(|kind| glob::Pattern::new(&kind.to_ascii_lowercase()).ok());
    Some(http::Compress {
        codings: config.codings.clone(),
        types: types.collect(),
        min_size: config.min_size.0,
        level: config.level,
    })
}
