//! Which database a connection leads to.

use sqlx::{Postgres, postgres::PgArguments, query::QueryScalar};

/// Another text if the server was started anew, or the table of products made or filled by a restore.
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
