//! What `compress` of a route must hold: codings and types that can be meant, and something to compress.

use super::Complaints;
use crate::config::problem::shown;
use crate::config::{Compression, Route};

pub(super) fn verify(route: &Route, complaints: &mut Complaints) {
    let Some(compression) = route.compress.on() else { return };
    if route.upstream.is_none() && route.split.is_empty() && route.files.is_none() {
        let message = "compress counts only where answers come from an upstream or from files";
        complaints.warning(&["compress"], message, "answers of our own are short: remove it");
    }
    complaints.below(&["compress"], |complaints| table(compression, complaints));
}

fn table(compression: &Compression, complaints: &mut Complaints) {
    complaints.within("level", compression.level, 1..=6);
    if compression.codings.is_empty() {
        complaints.error(&["codings"], "no coding is named", "write [\"br\", \"zstd\", \"gzip\"]");
    }
    for (index, coding) in compression.codings.iter().enumerate() {
        if compression.codings[..index].contains(coding) {
            let keys = ["codings", &index.to_string()];
            complaints.error(&keys, format!("\"{coding}\" stands here twice"), "remove it");
        }
    }
    if compression.types.is_empty() {
        complaints.error(&["types"], "no type is named", "leave it out for all kinds of text");
    }
    for (index, kind) in compression.types.iter().enumerate() {
        let keys = ["types", &index.to_string()];
        let advice = "write one such as \"text/css\" or \"text/*\"";
        if let Err(error) = glob::Pattern::new(kind) {
            let message = format!("\"{}\" is not a type: {}", shown(kind), error.msg);
            complaints.error(&keys, message, advice);
        } else if kind.split('/').filter(|part| !part.is_empty()).count() != 2
            || kind.contains(|c: char| !c.is_ascii_graphic() || matches!(c, ';' | ','))
        {
            complaints.error(&keys, format!("\"{}\" is not a type", shown(kind)), advice);
        }
    }
}
