//! The config described in three ways that follow from its declarations: a page for people, a JSON
//! Schema for editors, and any one config with its defaults filled in.

use schemars::generate::SchemaSettings;

use super::section::{Field, Section};
use super::*;

const OPENING: &str = "\
# Reference

Every section and key of the config file. This page is generated from the declarations that the
file is read with.

- A table written `[upstream.NAME]` may stand any number of times, each with its own name of 1 to 64
  letters, digits, `_`, `.` or `-`.
- Times are written with their units: `\"3s\"`, `\"250ms\"`, `\"1h30m\"`, `\"2d\"`. Sizes are too: MB
  is 10^6 bytes, MiB is 2^20; a bare integer is bytes.
- Where a list may stand, a single value may stand alone.
- In strings, `${NAME}` is replaced by the environment variable and `${NAME:-text}` falls back to the
  text when it is unset or empty; `$${` stands for a literal `${`. A string that is nothing but
  `${NAME}` may also stand for an integer, a number or a truth value.
- Paths are relative to the file they stand in.
";

impl Config {
    /// The config as TOML with every default filled in; reading it gives an equal config. Included
    /// files are part of it already, so that it includes none.
    pub fn effective(&self) -> String {
        let mut config = self.clone();
        config.include.clear();
        // Every type here has a spelling in TOML, and its tables have text for keys.
        environment::escaped(&toml::to_string(&config).unwrap_or_default())
    }

    /// The same for people to look at: what lets somebody in shows as `***`. And how many values that were.
    pub(crate) fn effective_without_secrets(&self) -> (String, usize) {
        let effective = self.effective();
        let Ok(table) = effective.parse::<toml::Table>() else { return (effective, 0) };
        let mut config = toml::Value::Table(table);
        match secrets::hide_in_toml(&mut config, "", false) {
            0 => (effective, 0),
            count => (toml::to_string(&config).unwrap_or_default(), count),
        }
    }

    /// The JSON Schema (draft 2020-12) of a config file.
    pub fn schema() -> serde_json::Value {
        let generator = SchemaSettings::draft2020_12().into_generator();
        let mut schema = generator.into_root_schema_for::<Config>();
        schema.insert("title".to_owned(), "Evenkeel config".into());
        schema.to_value()
    }

    /// The reference page in Markdown: a table for each section.
    pub fn reference() -> String {
        let mut page = OPENING.to_owned();
        section::<Config>("The file", &mut page);
        section::<Process>("`[process]`", &mut page);
        section::<Log>("`[log]`", &mut page);
        section::<AccessSkip>("`access-skip` of `[log]`", &mut page);
        section::<Rotation>("`rotate` of `[log]`", &mut page);
        section::<Syslog>("`syslog` of `[log]`", &mut page);
        section::<Admin>("`[admin]`", &mut page);
        section::<AdminTls>("`tls` of `[admin]`", &mut page);
        section::<Upstream>("`[upstream.NAME]`", &mut page);
        section::<Backend>("`backends` of an upstream", &mut page);
        section::<HashBalance>("`balance` as a table", &mut page);
        section::<Probe>("`health` as a table", &mut page);
        section::<Sticky>("`sticky` and `split-cookie` as tables", &mut page);
        section::<EjectErrors>("`eject-errors` as a table", &mut page);
        section::<EjectLatency>("`eject-latency` as a table", &mut page);
        section::<IdleConnections>("`keep-alive` as a table", &mut page);
        section::<UpstreamTls>("`tls` of an upstream", &mut page);
        section::<H2Limits>("`h2-limits` of an upstream", &mut page);
        section::<TcpListener>("`[tcp.NAME]`", &mut page);
        section::<Packet>("`packet` of a TCP listener", &mut page);
        section::<PacketId>("`match` of a TCP listener", &mut page);
        section::<Ping>("`ping` of a TCP listener", &mut page);
        section::<LastReply>("`last-reply` of a TCP listener", &mut page);
        section::<Prologue>("`prologue` of a TCP listener", &mut page);
        section::<TcpRoute>("`[[tcp.NAME.route]]`", &mut page);
        section::<AcceptProxy>("`accept-proxy` of a listener", &mut page);
        section::<KeepaliveProbes>("`keepalive` as a table", &mut page);
        section::<HttpListener>("`[http.NAME]`", &mut page);
        section::<Http2>("`http2` of an HTTP listener", &mut page);
        section::<Tls>("`tls` of a listener", &mut page);
        section::<Certificate>("`certificates` of `tls`", &mut page);
        section::<Acme>("`acme` of `tls`", &mut page);
        section::<Route>("`[[http.NAME.route]]`", &mut page);
        section::<ClientCertificate>("`client-certificate` of a route", &mut page);
        section::<SplitShare>("`split` of a route", &mut page);
        section::<RouteRetry>("`retry` as a table", &mut page);
        section::<HeaderEdits>("`request-headers` and `response-headers` of a route", &mut page);
        section::<RateLimit>("`rate-limit` of a route or an HTTP listener", &mut page);
        section::<BasicAuth>("`basic-auth` of a route", &mut page);
        section::<ForwardAuth>("`forward-auth` of a route", &mut page);
        section::<Mirror>("`mirror` of a route", &mut page);
        section::<Compression>("`compress` as a table", &mut page);
        section::<Reply>("`reply` as a table", &mut page);
        page
    }
}

fn section<T: Section>(title: &str, page: &mut String) {
    let rows: String = T::fields().iter().map(row).collect();
    page.push_str(&format!(
        "\n## {title}\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n{rows}",
        T::ABOUT.trim()
    ));
}

fn row(field: &Field) -> String {
    let default = match &field.default {
        _ if field.required => "required".to_owned(),
        Some(default) => format!("`{}`", spelled(default)),
        None => "none".to_owned(),
    };
    let cells = [field.words.as_str(), &default, field.meaning.trim()];
    let cells: String = cells.map(|cell| format!(" {} |", cell.replace('|', "\\|"))).concat();
    format!("| `{}` |{cells}\n", field.key)
}

/// A default as it is written in TOML.
fn spelled(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(values) => {
            format!("[{}]", values.iter().map(spelled).collect::<Vec<_>>().join(", "))
        }
        // Strings, numbers and truth values are written alike in both.
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_that_can_be_written_is_in_the_reference() {
        let (schema, page) = (Config::schema(), Config::reference());
        let tables = schema["$defs"].as_object().unwrap().values();
        for table in tables.filter(|table| table["properties"].is_object()) {
            let about = table["description"].as_str().unwrap();
            assert!(page.contains(about), "the reference lacks: {about}");
        }
    }
}
