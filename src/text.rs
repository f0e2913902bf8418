//! Text of others, where it could deceive: control characters drive a terminal, and those that
//! change the direction of writing make a line read as something else (Unicode Technical Report 36,
//! section 2.8).

/// Whether a character changes the text around it instead of being part of it.
pub fn is_control(character: char) -> bool {
    let sets_direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    sets_direction || character.is_control()
}

/// `text` for a terminal or a log: what would act on the text around it is escaped.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_control(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_turns_a_line_around_is_escaped_and_letters_stay() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(printable("\u{2067}x\u{2069}\u{85}"), "\\u{2067}x\\u{2069}\\u{85}");
        assert_eq!(printable("größe שלום"), "größe שלום");
    }
}
