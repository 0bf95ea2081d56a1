//! The name of an API key.

use crate::{Invalid, text};

/// The longest name of a key, in characters.
pub const MAX_KEY_NAME_CHARS: usize = 200;

/// What a key is for: 1 to [`MAX_KEY_NAME_CHARS`] characters, not only blanks, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// A name that is empty, blank, too long, or has a line break or another control character.
    pub fn new(name: String) -> Result<Self, Invalid> {
        text::name(name, MAX_KEY_NAME_CHARS).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for bad in ["", " ", "a\0b", "a\nb", &"x".repeat(201)] {
            assert!(KeyName::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(KeyName::new("web shop".to_owned()).unwrap().as_str(), "web shop");
    }
}
