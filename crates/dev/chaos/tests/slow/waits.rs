//! Waits that several tests use.

use holdfast_sandbox::until;
use sqlx::PgConnection;

/// Waits until each order of this database has a final status.
pub async fn settled(connection: &mut PgConnection) {
    let open = "SELECT count(*) FROM orders WHERE status IN ('pending', 'processing')";
    until("every order is final", async || {
        match sqlx::query_scalar::<_, i64>(open).fetch_one(&mut *connection).await.unwrap() {
            0 => Ok(()),
            open => Err(format!("{open} are not final")),
        }
    })
    .await;
}
