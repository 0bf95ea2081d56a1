//! The operator who changes an order, and the reason.

use crate::{
    Invalid,
    text::{self, visible_text},
};

/// The longest name of an operator, in characters.
pub const MAX_OPERATOR_CHARS: usize = 200;
/// The longest note of an operator, in characters.
pub const MAX_OPERATOR_NOTE_CHARS: usize = 500;

/// The shop's name for an operator: 1 to [`MAX_OPERATOR_CHARS`] characters on one line, not only
/// blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorName(String);

/// The operator's reason: 1 to [`MAX_OPERATOR_NOTE_CHARS`] characters without NUL, not only blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorNote(String);

impl OperatorName {
    /// Checks a name.
    ///
    /// # Errors
    /// A name that is empty, blank, too long, or has a line break or another control character.
    pub fn new(name: String) -> Result<Self, Invalid> {
        text::name(name, MAX_OPERATOR_CHARS).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OperatorNote {
    /// Checks a text.
    ///
    /// # Errors
    /// The text is empty, blank or too long, or contains NUL.
    pub fn new(text: String) -> Result<Self, Invalid> {
        visible_text(text, MAX_OPERATOR_NOTE_CHARS).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_notes_of_operators_are_checked() {
        for bad in ["", " ", "a\0b", &"x".repeat(501)] {
            assert!(OperatorName::new(bad.to_owned()).is_err(), "{bad:?}");
            assert!(OperatorNote::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(OperatorName::new("x".repeat(201)).is_err());
        assert!(OperatorName::new("ß".repeat(200)).is_ok());
        assert!(OperatorNote::new("ß".repeat(500)).is_ok());
    }
}
