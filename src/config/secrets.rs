//! What is kept out of everything that is shown: headers that let somebody in, parameters of a query that do, passwords in URLs. It goes
//! by names, and rather hides too much than too little; what is hidden shows as `***`.

use serde_json::Value;

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &str = "***";

/// Headers that let somebody in (RFC 9110 11, RFC 6265), and those that programs have made up for it.
const HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-amz-security-token",
    "x-forwarded-access-token",
    "sec-websocket-protocol",
];

/// Parts of names that stand for a secret whatever they are of.
const PARTS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api-key",
    "apikey",
    "api_key",
    "auth-key",
    "credential",
];

/// Parameters of a query whose values are secrets, as servers are used to be sent them.
pub(crate) fn parameters() -> Vec<String> {
    [
        "access_token",
        "api_key",
        "apikey",
        "auth",
        "client_secret",
        "code",
        "id_token",
        "jwt",
        "key",
        "passwd",
        "password",
        "pwd",
        "refresh_token",
        "secret",
        "session",
        "sessionid",
        "sid",
        "sig",
        "signature",
        "token",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Whether the value of a header lets somebody in.
pub(crate) fn is_secret_header(name: &str) -> bool {
    HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header)) || is_secret(name)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

/// A target or URL without the values of these parameters and without a password of its own; nothing if it has none.
pub(crate) fn without_secrets(url: &str, parameters: &[String]) -> Option<String> {
    let plain = without_password(url);
    let said = plain.as_deref().unwrap_or(url);
    let Some((path, query)) = said.split_once('?') else { return plain };
    let hides = |pair| secret_name(pair, parameters);
    if !query.split(['&', ';']).any(|pair| hides(pair).is_some()) {
        return plain;
    }
    let mut hidden = format!("{path}?");
    for pair in query.split_inclusive(['&', ';']) {
        let (bare, end) = match pair.strip_suffix(['&', ';']) {
            Some(bare) => (bare, &pair[bare.len()..]),
            None => (pair, ""),
        };
        match hides(bare) {
            Some(name) => hidden.extend([name, "=", HIDDEN, end]),
            None => hidden.push_str(pair),
        }
    }
    Some(hidden)
}

/// The name of a pair in a query, if its value is a secret.
fn secret_name<'q>(pair: &'q str, parameters: &[String]) -> Option<&'q str> {
    let (name, value) = pair.split_once('=')?;
    let is_secret = parameters.iter().any(|parameter| is_named(name, parameter));
    (is_secret && !value.is_empty()).then_some(name)
}

/// Whether a name in a query is this parameter, also with letters written as `%74`.
fn is_named(written: &str, parameter: &str) -> bool {
    let mut rest = written.as_bytes();
    let mut wanted = parameter.bytes();
    loop {
        let byte = match rest {
            [] => return wanted.next().is_none(),
            [b'%', high, low, more @ ..] => {
                let digits = [*high, *low].map(|digit| char::from(digit).to_digit(16));
                let [Some(high), Some(low)] = digits else { return false };
                rest = more;
                (high * 16 + low) as u8
            }
            [byte, more @ ..] => {
                rest = more;
                *byte
            }
        };
        if wanted.next().is_none_or(|wanted| !wanted.eq_ignore_ascii_case(&byte)) {
            return false;
        }
    }
}

/// A text without the passwords of URLs in it, as in `http://user:password@host/`; nothing if there are none.
fn without_password(text: &str) -> Option<String> {
    let (mut hidden, mut done, mut from) = (String::new(), 0, 0);
    while let Some(begin) = text[from..].find("://").map(|at| from + at + 3) {
        let rest = &text[begin..];
        let authority = &rest[..rest.find(['/', '?', '#', ' ', '"']).unwrap_or(rest.len())];
        from = begin + authority.len();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if let Some((name, _)) = user.and_then(|user| user.split_once(':')) {
            hidden.push_str(&text[done..begin + name.len() + 1]);
            hidden.push_str(HIDDEN);
            done = begin + user.map_or(0, str::len);
        }
    }
    (done > 0).then(|| hidden + &text[done..])
}

/// A value of a config, under its keys with dots between them, without the secrets in it.
pub(super) fn hide(path: &str, value: &Value) -> Value {
    let mut keys = path.split('.').rev();
    let key = keys.next().unwrap_or_default();
    let is_header = keys.any(is_of_headers);
    let mut hidden = value.clone();
    hide_in(&mut hidden, key, is_header);
    hidden
}

/// Tables whose keys are names of headers.
pub(super) fn is_of_headers(key: &str) -> bool {
    key.contains("header")
}

fn hide_in(value: &mut Value, key: &str, is_header: bool) {
    match value {
        Value::String(text) => {
            if let Some(shown) = shown(text, key, is_header) {
                *text = shown;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in(value, key, is_header)),
        Value::Object(map) => {
            let is_header = is_header || is_of_headers(key);
            map.iter_mut().for_each(|(key, value)| hide_in(value, key, is_header));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The same in TOML; how many values were hidden.
pub(super) fn hide_in_toml(value: &mut toml::Value, key: &str, is_header: bool) -> usize {
    match value {
        toml::Value::String(text) => match shown(text, key, is_header) {
            Some(shown) => {
                *text = shown;
                1
            }
            None => 0,
        },
        toml::Value::Array(values) => {
            values.iter_mut().map(|value| hide_in_toml(value, key, is_header)).sum()
        }
        toml::Value::Table(table) => {
            let is_header = is_header || is_of_headers(key);
            table.iter_mut().map(|(key, value)| hide_in_toml(value, key, is_header)).sum()
        }
        _ => 0,
    }
}

/// What is shown in the place of a value under this key, where it is a secret.
pub(super) fn shown(text: &str, key: &str, is_header: bool) -> Option<String> {
    let is_secret = match is_header {
        true => is_secret_header(key),
        // What a health check says to get in.
        false if key == "send" => lets_in(text),
        false => is_secret(key) && !key.ends_with("-file"),
    };
    if is_secret { Some(HIDDEN.to_owned()) } else { without_password(text) }
}

/// A line of a config file in which each letter of a secret is a star: as long as it was, so that places in it stay.
pub(super) fn veiled(line: &str) -> String {
    let mut veiled = String::with_capacity(line.len());
    let mut key = String::new();
    let mut hides = false;
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (taken, is_text) = match first {
            '"' | '\'' => (literal(rest, first), true),
            _ if is_of_key(first) => (rest.split(|c| !is_of_key(c)).next().unwrap_or(rest), false),
            _ => (&rest[..first.len_utf8()], false),
        };
        rest = &rest[taken.len()..];
        let is_key = rest.trim_start().starts_with('=') && !rest.trim_start().starts_with("==");
        if is_key && (is_text || is_of_key(first)) {
            key = taken.trim_matches(['"', '\'']).to_owned();
            hides = is_secret_place(&key);
            veiled.push_str(taken);
        } else if is_text && (hides || (key == "send" && lets_in(taken))) {
            veiled.extend(
                taken
                    .chars()
                    .map(|c| if c == first { c.to_string() } else { "*".repeat(c.len_utf8()) }),
            );
        } else if is_text && let Some(plain) = without_password(taken) {
            // The password is what is missing from both ends.
            let end = plain.len() - plain.find(HIDDEN).map_or(0, |at| at + HIDDEN.len());
            let begin = plain.find(HIDDEN).unwrap_or(0);
            veiled.push_str(&taken[..begin]);
            veiled.push_str(&"*".repeat(taken.len().saturating_sub(begin + end)));
            veiled.push_str(&taken[taken.len() - end..]);
        } else {
            veiled.push_str(taken);
        }
        if first == '#' && !is_text {
            veiled.push_str(rest);
            break;
        }
    }
    veiled
}

/// A string from its quote to the next one that is not escaped, or to the end where there is none.
fn literal(rest: &str, quote: char) -> &str {
    let mut is_escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && quote == '"' && !is_escaped;
        ends
    });
    end.map_or(rest, |(at, c)| &rest[..at + c.len_utf8()])
}

fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Whether a key of a config file is one of a secret, wherever it stands. `cookie` in small letters names one, and has none.
fn is_secret_place(key: &str) -> bool {
    key != "cookie" && is_secret_header(key) && !key.ends_with("-file")
}

/// Whether words of a protocol have a password in them, as `AUTH` of Redis or `PASS` of POP3.
fn lets_in(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["auth", "pass", "secret", "token"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(target: &str) -> String {
        without_secrets(target, &parameters()).unwrap_or_else(|| target.to_owned())
    }

    #[test]
    fn the_value_of_a_secret_parameter_is_hidden_and_nothing_else() {
        for (asked, shown) in [
            ("/a?b=c&token=d", "/a?b=c&token=***"),
            ("/a?TOKEN=d;b=c", "/a?TOKEN=***;b=c"),
            ("/a?%74oken=d&", "/a?%74oken=***&"),
            ("/a?token=d&token=e?f=g", "/a?token=***&token=***"),
            ("/a?tokens=d&token=&%7", "/a?tokens=d&token=&%7"),
            ("/token=d", "/token=d"),
            ("http://a:b@c/?key=d", "http://a:***@c/?key=***"),
        ] {
            assert_eq!(target(asked), shown);
        }
        assert_eq!(without_secrets("/a?token=b", &[]), None);
    }

    #[test]
    fn the_password_of_a_url_is_hidden_wherever_it_stands() {
        let two = "from http://a:b@c/ to https://d:e:f@g@h";
        assert_eq!(without_password(two).unwrap(), "from http://a:***@c/ to https://d:***@h");
        for plain in ["http://a@b/c:d@e", "http://a:80/", "a:b@c", "://", ""] {
            assert_eq!(without_password(plain), None, "{plain}");
        }
        // Whatever a client sends, this ends, and soon.
        assert_eq!(without_password(&"://:@ ".repeat(20_000)).unwrap().len(), 20_000 * 9);
    }

    #[test]
    fn a_line_that_is_drawn_has_stars_in_the_place_of_secrets_and_keeps_its_length() {
        for (line, shown) in [
            (r#"Authorization = "Bearer one""#, r#"Authorization = "**********""#),
            (
                r#"set = { "X-Api-Key" = "é", Host = "a" }"#,
                r#"set = { "X-Api-Key" = "**", Host = "a" }"#,
            ),
            (
                r#"add = { Cookie = ["a\"b", 'c'], X = "d" }"#,
                r#"add = { Cookie = ["**"*", '*'], X = "d" }"#,
            ),
            (r#"X-Token = "never closed"#, r#"X-Token = "************"#),
            (r#"send = "AUTH a", expect = "+OK""#, r#"send = "******", expect = "+OK""#),
            (r#"url = "http://a:bcd@e/f" # x"#, r#"url = "http://a:***@e/f" # x"#),
            (r#"cookie = "at", key-file = "b""#, r#"cookie = "at", key-file = "b""#),
        ] {
            assert_eq!(veiled(line), shown);
            assert_eq!(shown.len(), line.len());
        }
    }

    #[test]
    fn what_lets_somebody_in_is_hidden_in_a_config() {
        let config = serde_json::json!({
            "health": { "headers": { "Authorization": "one", "X-Plain": "fine" }, "send": "AUTH two" },
            "request-headers": { "set": { "X-Api-Key": "three", "Host": "fine" } },
            "sticky": { "cookie": "fine", "key-file": "fine", "token-file": "fine" },
            "url": "http://a:four@b",
        });
        let shown = hide("http.web", &config).to_string();
        for secret in ["one", "two", "three", "four"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert_eq!(shown.matches("fine").count(), config.to_string().matches("fine").count());
        let alone = hide("upstream.app.health.headers.Cookie", &"a=b".into());
        assert_eq!(alone, "***");
    }
}
