//! Checks for texts that people read.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::Invalid;

/// Letters and symbols that are invisible despite their category: the Hangul fillers and the blank of
/// Braille.
const BLANKS: [char; 5] = ['\u{115F}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{FFA0}'];

/// A text with at least one visible character, of at most `max_chars` characters, without NUL.
pub(crate) fn visible_text(text: String, max_chars: usize) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    let text = checked_text(text, max_chars)?;
    if !text.chars().any(is_visible) {
        return Err("must have a visible character".into());
    }
    Ok(text)
}

/// The name of anything: a [`visible_text`] on one line. It is shown in lists, logs and headers.
pub(crate) fn name(text: String, max_chars: usize) -> Result<String, Invalid> {
    let name = visible_text(text, max_chars)?;
    if name.chars().any(|char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')) {
        return Err("must not contain line breaks or other control characters".into());
    }
    Ok(name)
}

/// A text of at most `max_chars` characters, without NUL.
pub(crate) fn checked_text(text: String, max_chars: usize) -> Result<String, Invalid> {
    // PostgreSQL's text cannot contain NUL.
    if text.contains('\0') {
        return Err("must not contain a NUL character".into());
    }
    // Bytes are checked first, so that a very long text is refused without decoding it.
    if text.len() > max_chars * 4 || text.chars().count() > max_chars {
        return Err(format!("must be at most {max_chars} characters long").into());
    }
    Ok(text)
}

/// Whether a character is visible by itself: not a space, a control character, a format character (such as
/// zero-width and direction characters), or a mark that needs another character.
fn is_visible(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_graphic();
    }
    match char.general_category_group() {
        GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => {
            // Private-use characters may be visible.
            char.general_category() == GeneralCategory::PrivateUse
        }
        GeneralCategoryGroup::Mark => false,
        _ => !BLANKS.contains(&char),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_with_only_invisible_characters_is_refused() {
        for bad in [
            "",
            " ",
            "\u{a0}",
            "\u{3000}\u{2003}",
            "\u{200b}",
            "\u{200b}\u{200d}\u{2060}",
            "\u{feff}",
            "\u{202e}",
            "\u{2066}\u{2069}",
            "\u{200e} \u{200f}",
            "\u{301}",
            "\u{20dd}",
            "\u{ad}",
            "\u{fe0f}",
            "\u{180e}",
            "\u{3164}",
            "\u{2800}",
            "\u{115f}\u{1160}\u{ffa0}",
            "\u{e0041}",
            "\u{1}\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\t\n",
            "\u{378}",
        ] {
            assert!(visible_text(bad.to_owned(), 200).is_err(), "{bad:?}");
        }
        for good in [
            "x",
            "é",
            "e\u{301}",
            "☃",
            "👩\u{200d}🚀",
            "\u{200f}שלום",
            "한",
            "नमस्ते",
            "?",
            "\u{e000}",
            " a ",
        ] {
            assert_eq!(visible_text(good.to_owned(), 200).as_deref(), Ok(good));
        }
        assert!(visible_text("x".repeat(201), 200).is_err());
        assert!(visible_text("a\0".to_owned(), 200).is_err());
    }

    #[test]
    fn a_name_has_one_line() {
        for bad in
            ["a\nb", "a\r", "\ta", "a\u{1b}[31m", "a\u{7f}", "a\u{85}b", "a\u{2028}b", "a\0", ""]
        {
            assert!(name(bad.to_owned(), 200).is_err(), "{bad:?}");
        }
        for good in ["a b", "ü", "👩\u{200d}🚀", ".."] {
            assert_eq!(name(good.to_owned(), 200).as_deref(), Ok(good));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_checked_without_panic(text in ".{0,60}", max in 0_usize..80) {
            if let Ok(taken) = visible_text(text.clone(), max) {
                prop_assert_eq!(&taken, &text);
                prop_assert!(taken.chars().count() <= max && taken.chars().any(is_visible));
            }
        }
    }
}
