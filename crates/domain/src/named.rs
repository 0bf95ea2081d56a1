//! Enumerations whose values have names.

/// Declares an enumeration whose values have names: in the database, in the API, in metrics.
///
/// ```
/// holdfast_domain::named! {
///     /// A size.
///     #[derive(Clone, Copy, Debug, PartialEq, Eq)]
///     pub enum Size {
///         /// Up to one litre.
///         Small = "small",
///         /// More.
///         Large = "large",
///     }
/// }
/// assert_eq!("large".parse(), Ok(Size::Large));
/// assert_eq!(Size::ALL.map(Size::as_str), ["small", "large"]);
/// assert_eq!("huge".parse::<Size>().unwrap_err().to_string(), "must be one of small, large");
/// ```
#[macro_export]
macro_rules! named {
    ($(#[$attribute:meta])* $vis:vis enum $Type:ident {
        $($(#[$doc:meta])* $Value:ident = $name:literal,)+
    }) => {
        $(#[$attribute])*
        $vis enum $Type { $($(#[$doc])* $Value,)+ }

        impl $Type {
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Value),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$Value => $name,)+ }
            }
        }

        impl ::std::fmt::Display for $Type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $Type {
            type Err = $crate::Invalid;

            fn from_str(name: &str) -> Result<Self, $crate::Invalid> {
                Self::ALL.into_iter().find(|value| value.as_str() == name).ok_or_else(|| {
                    format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")).into()
                })
            }
        }
    };
}
