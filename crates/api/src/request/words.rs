//! Enumerations of the domain as the API shows and reads them.

/// A type of the API whose values are the words of an enumeration of the domain.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident of $domain:ty) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $domain);

        impl $name {
            const DESCRIPTION: &str = concat!($($doc),+).trim_ascii();
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.as_str())
            }
        }

        impl ::utoipa::PartialSchema for $name {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::Schema> {
                ::utoipa::openapi::ObjectBuilder::new()
                    .schema_type(::utoipa::openapi::schema::Type::String)
                    .description(Some(Self::DESCRIPTION))
                    .enum_values(Some(<$domain>::ALL.map(<$domain>::as_str)))
                    .into()
            }
        }

        impl ::utoipa::ToSchema for $name {}

        impl $crate::request::Value for $name {
            fn read(
                input: $crate::request::Input<'_>,
                _: &$crate::request::Reading<'_>,
            ) -> Result<Self, $crate::request::Wrong> {
                let text = input.text()?;
                Ok(Self(text.parse()?))
            }

            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::Schema> {
                ::utoipa::openapi::Ref::from_schema_name(stringify!($name)).into()
            }

            fn components(components: &mut $crate::request::Components) {
                let schema = <Self as ::utoipa::PartialSchema>::schema();
                components.push((stringify!($name).to_owned(), schema));
            }
        }
    };
}

pub(crate) use words;
