//! Everything one run of the benchmark found, as written to and read from JSON.
//! It holds samples, never medians: those are worked out from it, by `summary`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::Measure;
use crate::peer::Peer;
use crate::suite::Suite;
use crate::traffic::Values;

/// One run of one measure.
#[derive(Serialize, Deserialize)]
pub struct Sample {
    pub measure: Measure,
    pub peer: Peer,
    pub threads: usize,
    pub round: usize,
    pub values: Values,
}

/// A config as shown on the page.
#[derive(Serialize, Deserialize)]
pub struct ShownConfig {
    pub peer: Peer,
    pub command: String,
    pub files: Vec<(String, String)>,
}

/// The whole run.
#[derive(Serialize, Deserialize)]
pub struct Results {
    #[serde(default)]
    pub suite: Suite,
    pub machine: Machine,
    pub versions: BTreeMap<Peer, String>,
    pub absent: Vec<Peer>,
    pub threads: Vec<usize>,
    pub rounds: usize,
    pub seconds: f64,
    pub pinned: bool,
    /// Messages or requests a second of the latency measure, by threads.
    pub latency_rates: BTreeMap<usize, f64>,
    pub configs: Vec<ShownConfig>,
    pub samples: Vec<Sample>,
    pub failures: Vec<String>,
}

impl Results {
    pub fn read(file: &Path) -> Result<Results, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("read results: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("read results: {error}"))
    }

    pub fn write(&self, file: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::write(file, text + "\n"))
            .map_err(|error| format!("write results: {error}"))
    }

    /// Peers that were measured, in their usual order.
    pub fn peers(&self) -> Vec<Peer> {
        Peer::ALL.into_iter().filter(|peer| self.samples.iter().any(|s| s.peer == *peer)).collect()
    }
}
