//! Text that somebody else may have written, made fit to be shown: one line stays one line, and nothing in it speaks to a terminal, or turns
//! the order of letters around.

use std::fmt::Write as _;

/// Whether a character does something else than stand there: controls, line ends of Unicode, and marks that change the direction of
/// text (UAX 9, 2).
pub(super) fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'
                ..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Writes JSON so that no character in it acts. JSON itself escapes the controls of ASCII alone.
pub(super) fn write_json(line: &mut String, json: &str) {
    for character in json.chars() {
        // None of them is beyond the first plane, so four digits are enough.
        if acts(character) {
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
}

/// Writes a text of several lines, the further ones moved in, so that none of them can be taken for a line of its own. Colors are let
/// pass where a terminal shows them: whoever wrote the line has escaped those of others.
pub(super) fn write_text(line: &mut String, text: &str, with_colors: bool) {
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\n    "),
            '\t' => line.push('\t'),
            '\u{1b}' if with_colors => line.push(character),
            _ if acts(character) => {
                let _ = write!(line, "{}", character.escape_unicode());
            }
            _ => line.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_pass_for_another_line_or_speak_to_a_terminal() {
        let mut line = String::new();
        write_text(&mut line, "a\nb\r\u{1b}[31m\0\u{9b}\u{2028}\u{202e}é\t", false);
        assert_eq!(line, "a\n    b\\u{d}\\u{1b}[31m\\u{0}\\u{9b}\\u{2028}\\u{202e}é\t");
    }

    #[test]
    fn json_stays_json_of_the_same_text() {
        let text = "a\n\u{7f}\u{9b}\u{2028}\u{202e}\u{feff}é\u{1f600}";
        let mut line = String::new();
        write_json(&mut line, &serde_json::to_string(text).unwrap());
        assert!(!line.contains(acts), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
