//! Statements with shared parts.
//!
//! sqlx checks a statement at compile time if its text consists of literals in a call of its macros. So the shared
//! parts are inserted between the literals before sqlx sees them: in the macros here, `{name}` is replaced by the
//! [`part!`] of that name.

/// The text of literals and parts, for a statement that is built at run time.
macro_rules! sql {
    ($($piece:tt)+) => { $crate::sql::pieces!([text] [] $($piece)+) };
}

/// `sqlx::query_as!` for literals and parts: `checked!(Row, [pieces], arguments)`.
macro_rules! checked {
    ($row:ident, [$($piece:tt)+] $(, $argument:expr)* $(,)?) => {
        $crate::sql::pieces!([checked $row ($($argument),*)] [] $($piece)+)
    };
}

/// The body of a part, which is a macro in the module of its subject: `macro_rules! name { ($($to:tt)+) => {
/// part!([pieces] $($to)+) }; }`.
macro_rules! part {
    ([$($piece:tt)+] $to:tt $done:tt $($rest:tt)*) => {
        $crate::sql::pieces!($to $done $($piece)+ $($rest)*)
    };
}

/// Replaces parts by their pieces until only literals are left.
macro_rules! pieces {
    ([text] [$($literal:tt)+]) => { concat!($($literal),+) };
    ([checked $row:ident ($($argument:expr),*)] [$first:tt $($literal:tt)*]) => {
        sqlx::query_as!($row, $first $(+ $literal)*, $($argument),*)
    };
    ($to:tt $done:tt {$($part:tt)+} $($rest:tt)*) => { $($part)+!($to $done $($rest)*) };
    ($to:tt [$($done:tt)*] $literal:tt $($rest:tt)*) => {
        $crate::sql::pieces!($to [$($done)* $literal] $($rest)*)
    };
}

pub(crate) use {checked, part, pieces, sql};
