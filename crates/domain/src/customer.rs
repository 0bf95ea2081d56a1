//! The shop's reference to a customer.

use crate::{Invalid, text};

/// The longest reference to a customer, in characters.
pub const MAX_CUSTOMER_REF_CHARS: usize = 200;

/// The shop's reference to a customer: 1 to [`MAX_CUSTOMER_REF_CHARS`] characters on one line, of
/// which at least one is visible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomerRef(String);

impl CustomerRef {
    /// Checks a reference.
    ///
    /// # Errors
    /// A reference that is empty, blank, too long, or has a line break or another control character.
    pub fn new(name: String) -> Result<Self, Invalid> {
        text::name(name, MAX_CUSTOMER_REF_CHARS).map(Self)
    }

    /// A stored reference, which may have been checked by older rules.
    pub fn kept(name: String) -> Self {
        Self(name)
    }

    /// The reference.
    pub fn into_inner(self) -> String {
        self.0
    }

    /// The reference.
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
