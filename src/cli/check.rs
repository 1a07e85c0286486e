//! `evenkeel check`: every problem of a config file, for people or as JSON, without starting anything.
//! With `--effective`, the config as it will be used, every default filled in.

use super::{ConfigFile, complain, exit, say, wants_color};
use crate::config::problem::Problems;
use crate::config::{Config, PathPattern};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the config with every default filled in.
    #[arg(long, conflicts_with = "json")]
    effective: bool,
    /// With --effective: print passwords and tokens too, so that what is printed can be used as a config.
    #[arg(long, requires = "effective")]
    with_secrets: bool,
    /// Print the problems as a JSON array instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Arguments) -> u8 {
    match Config::from_file(&arguments.file.config) {
        Ok(loaded) => {
            report(&loaded.warnings, arguments.json);
            if arguments.effective {
                print_effective(&loaded.config, arguments.with_secrets);
            } else if !arguments.json {
                say(&summary(&loaded.config, &arguments.file.config.display().to_string()));
            }
            exit::FINE
        }
        Err(problems) => {
            report(&problems, arguments.json);
            exit::BAD_CONFIG
        }
    }
}

fn print_effective(config: &Config, with_secrets: bool) {
    let (text, hidden) = match with_secrets {
        true => (config.effective(), 0),
        false => config.effective_without_secrets(),
    };
    say(text.trim_end());
    if hidden > 0 {
        complain(&format!("secrets are shown as ***, {hidden} in all; --with-secrets prints them"));
    }
}

fn report(problems: &Problems, json: bool) {
    if json {
        say(&serde_json::to_string_pretty(problems).unwrap_or_default());
    } else if !problems.is_empty() {
        complain(problems.render(wants_color()).trim_end());
    }
}

fn summary(config: &Config, file: &str) -> String {
    let backends: usize = config.upstream.values().map(|upstream| upstream.backends.len()).sum();
    let (listeners, upstreams) = (config.tcp.len() + config.http.len(), config.upstream.len());
    let routes: Vec<_> = config.http.values().flat_map(|listener| &listener.route).collect();
    let is_regex = |path: &PathPattern| matches!(path, PathPattern::Regex(_));
    let by_regex = routes.iter().filter(|route| route.path.iter().any(is_regex)).count();
    let counted =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut parts = vec![
        counted(listeners, "listener"),
        counted(upstreams, "upstream"),
        counted(backends, "backend"),
    ];
    if !routes.is_empty() {
        parts.push(counted(routes.len(), "route"));
    }
    // They are tried one after the other, where all others are looked up.
    if by_regex > 0 {
        parts.push(format!("{by_regex} of them by regular expression"));
    }
    let mut said = format!("{file} is fine: {}", parts.join(", "));
    for (name, listener) in &config.tcp {
        if let Some(most) = listener.packets_held_max() {
            let most = most.0.div_ceil(1024 * 1024);
            said += &format!("\ntcp.{name}: a connection holds {most} MiB of packets at most");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_are_tried_one_by_one_are_counted() {
        let config = Config::parse(
            "[http.web]\nlisten = \":1\"\n[[http.web.route]]\npath = \"/a\"\nreply = 404\n\
             [[http.web.route]]\npath = [\"~ /b+\", \"~ /c+\"]\nreply = 404\n",
        );
        let said = summary(&config.unwrap(), "a.toml");
        let routes = "2 routes, 1 of them by regular expression";
        assert_eq!(said, format!("a.toml is fine: 1 listener, 0 upstreams, 0 backends, {routes}"));
    }

    #[test]
    fn what_a_connection_holds_of_packets_is_said() {
        let said = |lines: &str| {
            let text = "[upstream.a]\nbackends = \"127.0.0.1:1\"\n[tcp.t]\nlisten = \":1\"\n";
            let config = Config::parse(&format!("{text}upstream = \"a\"\n{lines}\n")).unwrap();
            summary(&config, "a.toml").lines().nth(1).map(str::to_owned)
        };
        assert_eq!(said(""), None);
        let mib =
            |count: u32| Some(format!("tcp.t: a connection holds {count} MiB of packets at most"));
        let packet = "packet = { length = \"N\", max = \"8MiB\", reply-max = \"4MiB\"";
        assert_eq!(said(&format!("{packet} }}")), mib(13));
        assert_eq!(said(&format!("{packet}, stream-large = true }}")), mib(1));
        let by_packet = format!("{packet} }}\nbalance-per = \"packet\"");
        assert_eq!(said(&by_packet), mib(25));
        assert_eq!(said(&format!("{by_packet}\nretry = \"idempotent\"")), mib(33));
        let ids = format!("{by_packet}\nmatch = {{ offset = 4, size = 4 }}\nin-flight-max = 8");
        assert_eq!(said(&ids), mib(49));
    }
}
