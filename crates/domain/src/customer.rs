//! Whose order it is, in the shop's own words.

use crate::{Invalid, text::visible_text};

/// The longest name for a customer, in characters.
pub const MAX_CUSTOMER_REF_CHARS: usize = 200;

/// The shop's own name for a customer: 1 to [`MAX_CUSTOMER_REF_CHARS`] characters, not only
/// blanks, without NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomerRef(String);

impl CustomerRef {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// A name that is empty, blank, too long or holds a NUL.
    pub fn new(name: String) -> Result<Self, Invalid> {
        visible_text(name, MAX_CUSTOMER_REF_CHARS).map(Self)
    }

    /// A name that is kept already: the rules may have been others when it was taken.
    pub fn kept(name: String) -> Self {
        Self(name)
    }

    /// The name, as a text of its own.
    pub fn into_inner(self) -> String {
        self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CustomerRef {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for bad in ["", " ", "a\0b", &"x".repeat(201)] {
            assert!(bad.parse::<CustomerRef>().is_err(), "{bad:?}");
        }
        for good in ["x", "cus_4711", &"ß".repeat(200)] {
            assert!(good.parse::<CustomerRef>().is_ok(), "{good:?}");
        }
    }
}
