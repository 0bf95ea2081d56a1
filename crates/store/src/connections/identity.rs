//! Identifies the database of a connection.

use sqlx::{Postgres, postgres::PgArguments, query::QueryScalar};

/// This text changes if the server is restarted, or if the table of products is created or truncated, as by a
/// restore.
pub(crate) fn identity() -> QueryScalar<'static, Postgres, String, PgArguments> {
    sqlx::query_scalar!(
        r#"
        SELECT left(md5(concat_ws(
            ' ',
            extract(epoch FROM pg_postmaster_start_time()),
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            to_regclass('products')::oid,
            pg_relation_filenode(to_regclass('products'))
        )), 16) AS "identity!"
        "#
    )
}
