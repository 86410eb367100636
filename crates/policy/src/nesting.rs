//! Finds brackets that nest too deep before the parser sees them: parsing a literal takes twice the time per level.
//! (Depth 20 took a second in regorus 0.14.1, depth 31 more than 20.)

use crate::finding::Finding;

/// The deepest nesting of brackets.
const DEEPEST: usize = 12;

/// Finds the first bracket that is too deep, outside strings and comments.
pub(crate) fn check(file: &str, text: &str) -> Result<(), Finding> {
    let mut depth = 0_usize;
    let mut within = Within::Code;
    let (mut line, mut column) = (1_u32, 0_u32);
    for character in text.chars() {
        column = column.saturating_add(1);
        if character == '\0' || (within == Within::Text && character == '\n') {
            return Err(Finding {
                line,
                column,
                ..Finding::of_file(
                    "parse",
                    file,
                    "a text is not closed on its line, or a NUL hides the rest of the file",
                )
            });
        }
        within = within.after(character);
        match character {
            '\n' => (line, column) = (line.saturating_add(1), 0),
            '(' | '[' | '{' if within == Within::Code => depth = depth.saturating_add(1),
            ')' | ']' | '}' if within == Within::Code => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(Finding {
                line,
                column,
                ..Finding::of_file(
                    "nesting-too-deep",
                    file,
                    format!(
                        "brackets nest deeper than {DEEPEST}; put inner parts into rules of their own, or into data.json"
                    ),
                )
            });
        }
    }
    Ok(())
}

/// What a character stands in.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Within {
    Code,
    Comment,
    Text,
    /// Right after a backslash.
    Escape,
    RawText,
}

impl Within {
    fn after(self, character: char) -> Self {
        match (self, character) {
            (Self::Code, '#') => Self::Comment,
            (Self::Code, '"') => Self::Text,
            (Self::Code, '`') => Self::RawText,
            (Self::Text, '\\') => Self::Escape,
            (Self::Escape, _) => Self::Text,
            (Self::Text, '"') | (Self::Comment, '\n') | (Self::RawText, '`') => Self::Code,
            (within, _) => within,
        }
    }
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(text: &str, expect: Option<(u32, u32)>) {
        let found = super::check("p.rego", text).err();
        assert_eq!(found.map(|finding| (finding.line, finding.column)), expect);
    }

    #[test]
    fn twelve_levels_pass() {
        check(&format!("x := {}{}", "[".repeat(12), "]".repeat(12)), None);
    }
    #[test]
    fn thirteen_levels_do_not() {
        check(&format!("x :=\n {}", "[".repeat(13)), Some((2, 14)));
    }
    #[test]
    fn brackets_side_by_side_pass() {
        check(&"f(x)".repeat(40), None);
    }
    #[test]
    fn brackets_in_texts_do_not_count() {
        check(&format!("x := \"\\\"{}\"", "[".repeat(20)), None);
    }
    #[test]
    fn brackets_in_raw_texts_do_not_count() {
        check(&format!("x := `{}`", "[\n".repeat(20)), None);
    }
    #[test]
    fn brackets_in_comments_do_not_count() {
        check(&format!("# {}\n", "[".repeat(20)), None);
    }
    #[test]
    fn a_nul_is_found() {
        check("x := 1\n\0y := 2", Some((2, 1)));
    }
    #[test]
    fn an_open_text_is_found() {
        check("x := \"\n", Some((1, 7)));
    }
    #[test]
    fn a_quote_in_a_comment_hides_nothing() {
        check(&format!("# \"\nx := {}", "[".repeat(13)), Some((2, 18)));
    }
}
