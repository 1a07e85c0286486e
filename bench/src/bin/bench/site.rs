//! What all proxies of the HTTP benchmark share on disk: three files to serve and a certificate.
//! It stands beside the folders of their configs, so that a config names it by a short path.

use std::fs;
use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};

/// The folder of files, as seen from the folder of a config.
pub const FILES: &str = "../site";
/// Certificate and key, ECDSA P-256; HAProxy wants both in one file.
pub const CERTIFICATE: &str = "../bench.crt";
pub const KEY: &str = "../bench.key";
pub const BOTH: &str = "../bench.pem";

const SIZES: [(&str, usize); 3] = [("1k", 1024), ("100k", 100 * 1024), ("10m", 10 * 1024 * 1024)];

/// Writes everything into `folder`.
pub fn write(folder: &Path) -> Result<(), String> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])
        .map_err(|error| format!("make a certificate: {error}"))?;
    let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
    let both = certificate.clone() + &key;
    let site = folder.join(below(FILES));
    fs::create_dir_all(&site).map_err(|error| format!("folder of files: {error}"))?;
    put(&folder.join(below(CERTIFICATE)), certificate.as_bytes())?;
    put(&folder.join(below(KEY)), key.as_bytes())?;
    put(&folder.join(below(BOTH)), both.as_bytes())?;
    SIZES.iter().try_for_each(|(name, size)| put(&site.join(name), &vec![b'f'; *size]))
}

/// The same place as seen from the folder above.
pub fn below(path: &str) -> &str {
    path.trim_start_matches("../")
}

fn put(file: &Path, content: &[u8]) -> Result<(), String> {
    fs::write(file, content).map_err(|error| format!("write a file of the site: {error}"))
}
