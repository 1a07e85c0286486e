//! Fills `${NAME}` and `${NAME:-default}` in string values from the environment; `$${` stays `${`.
//! It works on values that TOML has already taken apart, so a variable cannot bring in structure.

use std::borrow::Cow;

use super::problem::{Misread, shown};

/// Where variables come from.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value cannot grow past this, however often it names a long variable.
const LENGTH_MAX: usize = 64 * 1024;

/// The variable of this process; one that is not UTF-8 counts as unset.
pub(super) fn of_this_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text with every reference replaced, or all that is wrong with its references.
pub(super) fn fill<'t>(
    text: &'t str,
    environment: Environment<'_>,
) -> Result<Cow<'t, str>, Vec<Misread>> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let (mut filled, mut misreads) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.extend([before, "${"]);
            rest = &reference[2..];
            continue;
        }
        filled.push_str(before);
        let Some(end) = reference.find('}') else {
            misreads.push(
                Misread::new("\"${\" without a closing \"}\"")
                    .advise("write \"$${\" for a literal \"${\""),
            );
            break;
        };
        match value(&reference[2..end], environment) {
            Ok(value) => filled.push_str(&value),
            Err(misread) => misreads.push(misread),
        }
        rest = &reference[end + 1..];
        if filled.len() > LENGTH_MAX {
            misreads.push(Misread::new("this value is over 64 KiB with its variables filled in"));
            break;
        }
    }
    filled.push_str(rest);
    if misreads.is_empty() { Ok(Cow::Owned(filled)) } else { Err(misreads) }
}

/// Whether the text is one reference and nothing else.
pub(super) fn is_one_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

/// The text written so that filling it gives it back.
pub(super) fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

fn value(reference: &str, environment: Environment<'_>) -> Result<String, Misread> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !begins_well || !name.bytes().all(word) {
        return Err(Misread::new(format!("\"{}\" is not the name of a variable", shown(name)))
            .advise("write ${NAME} or ${NAME:-default}, or \"$${\" for a literal \"${\""));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(Misread::new(format!("the environment variable {} is not set", shown(name)))
                .advise(format!("set it, or write ${{{}:-default}}", shown(name))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Vec<String>> {
        let environment = |name: &str| match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "SLY" => Some("${HOST}\"\n[tcp.x]".to_owned()),
            _ => None,
        };
        fill(text, &environment)
            .map(Cow::into_owned)
            .map_err(|misreads| misreads.into_iter().map(|misread| misread.message).collect())
    }

    #[test]
    fn references_are_filled_and_literals_stay() {
        assert_eq!(filled("a ${HOST}:80, ${HOST}").unwrap(), "a db:80, db");
        assert_eq!(filled("$${HOST} costs $5 {}").unwrap(), "${HOST} costs $5 {}");
        assert_eq!(filled("${NONE:-a:-b}${EMPTY:-c}${EMPTY}").unwrap(), "a:-bc");
    }

    #[test]
    fn what_a_variable_holds_is_not_filled_again() {
        assert_eq!(filled("${SLY}").unwrap(), "${HOST}\"\n[tcp.x]");
    }

    #[test]
    fn every_wrong_reference_is_named() {
        let wrong = filled("${NONE} ${1} ${} ${HOST").unwrap_err();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
    }

    #[test]
    fn escaping_is_the_inverse_of_filling() {
        for text in ["", "$", "${", "$${", "$$${HOST}", "a${b$${c"] {
            assert_eq!(filled(&escaped(text)).unwrap(), text);
        }
    }
}
