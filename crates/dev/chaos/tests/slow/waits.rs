//! Waits of several tests.

use holdfast_sandbox::until;
use sqlx::PgConnection;

/// Waits until each order of this database has reached its end.
pub async fn settled(connection: &mut PgConnection) {
    let open = "SELECT count(*) FROM orders WHERE status IN ('pending', 'processing')";
    until("every order has ended", async || {
        match sqlx::query_scalar::<_, i64>(open).fetch_one(&mut *connection).await.unwrap() {
            0 => Ok(()),
            open => Err(format!("{open} are under way")),
        }
    })
    .await;
}
