//! The parameters of a statement that consists of units. A unit keeps a column and its values in one place.
//! Parameters are numbered in the order in which they are added.

use std::fmt;

use sqlx::{Encode, Postgres, Type, postgres::PgArguments};

/// Collects parameters.
#[derive(Default)]
pub(super) struct Parameters {
    arguments: PgArguments,
    added: usize,
}

/// A parameter in the text of a statement.
#[derive(Clone, Copy)]
pub(super) struct Parameter {
    number: usize,
}

/// Rows in the text of a statement: an array parameter for each column. The server unnests them.
#[derive(Clone, Copy)]
pub(super) struct ParameterRows {
    name: &'static str,
    /// The name of each column and the type of its array.
    columns: &'static [(&'static str, &'static str)],
    /// The number of the first column's parameter.
    first: usize,
    /// Whether `place` is one more column: the number of the row, from 1.
    with_place: bool,
}

impl Parameters {
    pub fn add<'q, T>(&mut self, value: T) -> Result<Parameter, sqlx::Error>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        use sqlx::Arguments as _;

        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        self.added += 1;
        Ok(Parameter { number: self.added })
    }

    pub fn into_arguments(self) -> PgArguments {
        self.arguments
    }
}

impl ParameterRows {
    pub fn new(
        name: &'static str,
        columns: &'static [(&'static str, &'static str)],
        parameters: &Parameters,
    ) -> Self {
        Self { name, columns, first: parameters.added + 1, with_place: false }
    }

    /// The same rows with their numbers.
    pub fn with_place(self) -> Self {
        Self { with_place: true, ..self }
    }
}

/// Adds rows: `rows!(parameters, name { column: "type of the array" = values, … })`. If a value cannot be
/// sent, returns the error from the calling function.
macro_rules! rows {
    ($parameters:expr, $name:ident { $($column:ident: $type:literal = $values:expr),+ $(,)? }) => {{
        const COLUMNS: &[(&str, &str)] = &[$((stringify!($column), $type)),+];
        let rows = ParameterRows::new(stringify!($name), COLUMNS, $parameters);
        $($parameters.add($values)?;)+
        rows
    }};
}
pub(super) use rows;

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.number)
    }
}

/// `unnest($1::bigint[], …) AS name (column, …)`.
impl fmt::Display for ParameterRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unnest(")?;
        for (number, (_, array)) in (self.first..).zip(self.columns) {
            let comma = if number == self.first { "" } else { ", " };
            write!(f, "{comma}${number}::{array}")?;
        }
        let ordinality = if self.with_place { " WITH ORDINALITY" } else { "" };
        write!(f, "){ordinality} AS {} (", self.name)?;
        for (at, (column, _)) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{column}")?;
        }
        f.write_str(if self.with_place { ", place)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Result<String, sqlx::Error> {
        let mut parameters = Parameters::default();
        let one = rows!(
            &mut parameters,
            one { id: "bigint[]" = vec![1_i64], tid: "text[]::tid[]" = vec!["(0,1)"] }
        );
        let nonce = parameters.add(7_i64)?;
        let other = rows!(&mut parameters, other { word: "text[]" = vec!["a"] }).with_place();
        Ok(format!("{one}; {nonce}; {other}"))
    }

    #[test]
    fn parameters_are_numbered_in_the_order_in_which_they_are_added() {
        let expected = "unnest($1::bigint[], $2::text[]::tid[]) AS one (id, tid); $3; \
            unnest($4::text[]) WITH ORDINALITY AS other (word, place)";
        assert_eq!(text().unwrap(), expected);
    }
}
