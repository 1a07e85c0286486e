//! Where spans of requests go, compiled. A part of the plan, in a file of its own because it is a whole of its own.

use crate::config::Log;
use crate::observe::traces::Settings;

pub(super) fn settings(config: &Log) -> Option<Settings> {
    let to = config.traces.clone()?;
    Some(Settings { to, sample: config.traces_sample.0 })
}
