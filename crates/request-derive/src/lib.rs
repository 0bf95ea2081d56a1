//! `#[derive(Request)]` for `holdfast-api`: a struct that says how a body or a query string is read, checked and
//! described in the OpenAPI document.
//!
//! ```ignore
//! /// A product to be created.
//! #[derive(Request)]
//! pub struct NewProduct {
//!     /// 1 to 200 characters.
//!     #[field(example = "Espresso machine")]
//!     name: ProductName,
//!     /// Up to 10,000 characters.
//!     description: Option<Description>,
//! }
//! ```
//!
//! What the types of fields mean:
//!
//! | type | the field |
//! |---|---|
//! | `T` | required, and must not be null |
//! | `Option<T>` | may be left out or be null, which is the same |
//! | `Option<T>` with `#[field(nullable = false)]` | may be left out, but must not be null |
//! | `Option<Option<T>>` | may be left out (`None`) or be null (`Some(None)`) |
//!
//! Each `T` is a `crate::request::Value`, which reads a field and has its schema. Doc comments are the descriptions in
//! the document. `#[request(check = function)]` names a function that is called with the `Fields` before any of them is
//! read. It checks which fields may be used together. Two more options describe the same rules in the document:
//!
//! ```ignore
//! #[request(
//!     check = one_form,
//!     form(NewOrderOfOneProduct, "An order with one line.", needs(product_id, quantity), without(items)),
//!     form(NewOrderOfItems, "An order with several lines.", needs(items), without(product_id, quantity)),
//!     example("One product", { "product_id": 3, "quantity": 1 })
//! )]
//! ```
//!
//! With forms, the schema is `oneOf` them; each has all fields except those in `without`. Without an example, the example
//! consists of the examples of the fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, GenericArgument, Ident, LitBool,
    LitStr, Meta, Path, PathArguments, Result, Token, Type,
    meta::ParseNestedMeta,
    parenthesized,
    parse::{Parse, ParseStream},
    parse_macro_input,
};

/// Derives `crate::request::Request`.
#[proc_macro_derive(Request, attributes(request, field))]
pub fn derive_request(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let schema_name = name.to_string();
    let description = docs(&input.attrs);
    let RequestOptions { check, forms, examples } = request_options(&input.attrs)?;
    let check = check.map(|function| quote! { #function(fields); });
    let forms = forms.iter().map(Form::described);
    let examples = examples.iter().map(|(summary, json)| {
        quote! {
            crate::request::RequestExample { summary: #summary, value: || ::serde_json::json!(#json) }
        }
    });
    let fields = fields_of(input)?.map(RequestField::new).collect::<Result<Vec<_>>>()?;

    let names = fields.iter().map(|field| &field.name);
    let described = fields.iter().map(RequestField::described);
    let read = fields.iter().enumerate().map(|(at, field)| field.read(at));
    // A wrong optional field is `None` and has left an error. If a required field is wrong, there is no value.
    let built = fields.iter().map(|field| {
        let ident = &field.ident;
        if field.presence == Presence::Required { quote!(#ident: #ident?) } else { quote!(#ident) }
    });
    Ok(quote! {
        impl crate::request::Request for #name {
            const NAME: &'static str = #schema_name;
            const DESCRIPTION: &'static str = #description;
            const NAMES: &'static [&'static str] = &[#(#names),*];
            const FIELDS: &'static [crate::request::FieldDescription] = &[#(#described),*];
            const FORMS: &'static [crate::request::FormDescription] = &[#(#forms),*];
            const EXAMPLES: &'static [crate::request::RequestExample] = &[#(#examples),*];

            fn read(
                fields: &mut crate::request::Fields<'_>,
                reading: &crate::request::Reading<'_>,
            ) -> Option<Self> {
                #check
                #(#read)*
                Some(Self { #(#built),* })
            }
        }
    })
}

fn fields_of(input: &DeriveInput) -> Result<impl Iterator<Item = &Field>> {
    match &input.data {
        Data::Struct(data) if input.generics.params.is_empty() => match &data.fields {
            Fields::Named(fields) => Ok(fields.named.iter()),
            _ => Err(Error::new_spanned(input, "the fields need names")),
        },
        _ => Err(Error::new_spanned(input, "a request is a struct without generics")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    /// May be left out, but not be null.
    Optional,
    /// May be left out or be null, which is the same.
    Nullable,
    /// Absent and null are distinguished.
    Cleared,
}

struct RequestField<'a> {
    ident: &'a syn::Ident,
    name: String,
    description: String,
    presence: Presence,
    value: &'a Type,
    example: Option<Expr>,
}

impl<'a> RequestField<'a> {
    fn new(field: &'a Field) -> Result<Self> {
        let ident = field
            .ident
            .as_ref()
            .ok_or_else(|| Error::new_spanned(field, "a field needs a name"))?;
        let (mut example, mut nullable) = (None, true);
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("field")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("example") {
                    example = Some(meta.value()?.parse::<Expr>()?);
                } else if meta.path.is_ident("nullable") {
                    nullable = meta.value()?.parse::<LitBool>()?.value;
                } else {
                    return Err(unknown(&meta));
                }
                Ok(())
            })?;
        }
        let (presence, value) = match optional(&field.ty) {
            None => (Presence::Required, &field.ty),
            Some(inner) => match optional(inner) {
                Some(value) => (Presence::Cleared, value),
                None if nullable => (Presence::Nullable, inner),
                None => (Presence::Optional, inner),
            },
        };
        let name = ident.to_string().trim_start_matches("r#").to_owned();
        Ok(Self { ident, name, description: docs(&field.attrs), presence, value, example })
    }

    /// Reads the field into a variable with its name.
    fn read(&self, at: usize) -> TokenStream {
        let Self { ident, value, .. } = self;
        match self.presence {
            Presence::Required => quote! { let #ident = fields.required::<#value>(#at, reading); },
            Presence::Optional => quote! { let #ident = fields.optional::<#value>(#at, reading); },
            Presence::Nullable => {
                quote! { let #ident = fields.nullable::<#value>(#at, reading).flatten(); }
            }
            Presence::Cleared => quote! { let #ident = fields.nullable::<#value>(#at, reading); },
        }
    }

    fn described(&self) -> TokenStream {
        let Self { name, description, value, .. } = self;
        let required = self.presence == Presence::Required;
        let nullable = matches!(self.presence, Presence::Nullable | Presence::Cleared);
        let example = self.example.as_ref();
        let example = example.map_or_else(
            || quote! { None },
            |example| quote! { Some(|| ::serde_json::json!(#example)) },
        );
        quote! {
            crate::request::FieldDescription {
                name: #name,
                description: #description,
                required: #required,
                nullable: #nullable,
                schema: <#value as crate::request::Value>::schema,
                components: <#value as crate::request::Value>::components,
                example: #example,
            }
        }
    }
}

/// The `T` of an `Option<T>`.
fn optional(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}

/// The contents of `#[request(…)]`.
#[derive(Default)]
struct RequestOptions {
    check: Option<Path>,
    forms: Vec<Form>,
    /// The title and the JSON of each example.
    examples: Vec<(LitStr, TokenStream)>,
}

/// `form(Name, "What it is.", needs(field, …), without(field, …))`
struct Form {
    name: Ident,
    description: LitStr,
    needs: Vec<Ident>,
    without: Vec<Ident>,
}

impl Parse for Form {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![,]>()?;
        let description = input.parse()?;
        let (mut needs, mut without) = (Vec::new(), Vec::new());
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let option: Ident = input.parse()?;
            let names;
            parenthesized!(names in input);
            let names = names.parse_terminated(Ident::parse, Token![,])?.into_iter().collect();
            match option.to_string().as_str() {
                "needs" => needs = names,
                "without" => without = names,
                _ => return Err(Error::new_spanned(option, "there is no such option")),
            }
        }
        Ok(Self { name, description, needs, without })
    }
}

impl Form {
    fn described(&self) -> TokenStream {
        let Self { name, description, needs, without } = self;
        let name = name.to_string();
        let [needs, without] =
            [needs, without].map(|names| names.iter().map(Ident::to_string).collect::<Vec<_>>());
        quote! {
            crate::request::FormDescription {
                name: #name,
                description: #description,
                needs: &[#(#needs),*],
                without: &[#(#without),*],
            }
        }
    }
}

fn request_options(attributes: &[Attribute]) -> Result<RequestOptions> {
    let mut options = RequestOptions::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("request")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("check") {
                options.check = Some(meta.value()?.parse::<Path>()?);
            } else if meta.path.is_ident("form") {
                let content;
                parenthesized!(content in meta.input);
                options.forms.push(content.parse()?);
            } else if meta.path.is_ident("example") {
                let content;
                parenthesized!(content in meta.input);
                let summary = content.parse()?;
                content.parse::<Token![,]>()?;
                options.examples.push((summary, content.parse()?));
            } else {
                return Err(unknown(&meta));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

fn unknown(meta: &ParseNestedMeta<'_>) -> Error {
    meta.error("there is no such option")
}

/// The text of doc comments.
fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                syn::Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> =
        lines.map(|line| line.strip_prefix(' ').map(ToOwned::to_owned).unwrap_or(line)).collect();
    lines.join("\n")
}
