//! Guarantee 1: the units put in equal those left, held and sold, and the ledger explains them.

use sqlx::{FromRow, PgConnection};

use super::{Archived, Findings, Log, adjustments, none_of};

/// All lines of all orders.
macro_rules! all_lines {
    () => {
        "SELECT product_id, quantity, status FROM orders \
         UNION ALL SELECT order_lines.product_id, order_lines.quantity, status \
             FROM order_lines JOIN orders ON orders.id = order_id"
    };
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: Option<&Log>,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let checks = [
        ("products are oversold: their stock is negative", "products WHERE stock < 0"),
        (
            "lines name a product that does not exist",
            concat!(
                "(",
                all_lines!(),
                ") AS line WHERE NOT EXISTS (SELECT FROM products WHERE products.id = product_id)"
            ),
        ),
        (
            "orders have a wrong number of lines",
            "orders FULL JOIN \
                 (SELECT order_id, count(*) + 1 AS lines FROM order_lines GROUP BY order_id) AS more \
                 ON order_id = orders.id \
             WHERE line_count IS DISTINCT FROM coalesce(lines, 1)",
        ),
    ];
    none_of(connection, &checks, findings).await?;
    if log.is_none_or(|log| log.initial_stock.is_empty()) {
        findings.unchecked.push("the units put in: there is only the ledger and no log".into());
    }
    let told = log.map(adjustments::put_in).unwrap_or_default();
    let sums: Vec<Sums> = sqlx::query_as(concat!(
        "SELECT coalesce(put_in.id, told.id) AS id, put_in.units, told.least, told.most, stock, \
             products.held, coalesce(holds.units, 0) AS kept, \
             coalesce(sold.units, 0) + coalesce(archived.units, 0) AS sold \
         FROM (SELECT product_id AS id, sum(delta)::bigint AS units FROM stock_ledger \
               WHERE reason <> 'admission' GROUP BY 1) AS put_in \
         FULL JOIN unnest($1::bigint[], $2::bigint[], $5::bigint[]) AS told (id, least, most) USING (id) \
         FULL JOIN products USING (id) \
         LEFT JOIN (SELECT product_id AS id, sum(quantity)::bigint AS units FROM holds \
                    WHERE status = 'active' GROUP BY 1) AS holds USING (id) \
         LEFT JOIN (SELECT product_id AS id, sum(quantity)::bigint AS units FROM (",
        all_lines!(),
        ") AS line WHERE status <> 'cancelled' GROUP BY 1) AS sold USING (id) \
         LEFT JOIN unnest($3::bigint[], $4::bigint[]) AS archived (id, units) USING (id) \
         WHERE stock IS NULL OR put_in.units IS NULL \
             OR put_in.units NOT BETWEEN coalesce(told.least, put_in.units) \
                 AND coalesce(told.most, put_in.units) \
             OR put_in.units <> stock + products.held + coalesce(sold.units, 0) \
                 + coalesce(archived.units, 0) \
             OR products.held <> coalesce(holds.units, 0)"
    ))
    .bind(told.keys().copied().collect::<Vec<_>>())
    .bind(told.values().map(|units| *units.start()).collect::<Vec<_>>())
    .bind(archived.units.keys().copied().collect::<Vec<_>>())
    .bind(archived.units.values().copied().collect::<Vec<_>>())
    .bind(told.values().map(|units| *units.end()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let wrong = sums.iter().map(Sums::describe).collect();
    findings.broken("stock and orders of products do not add up", wrong);
    ledger(connection, findings).await
}

/// The sums of a product that are wrong.
#[derive(FromRow)]
struct Sums {
    id: i64,
    units: Option<i64>,
    least: Option<i64>,
    most: Option<i64>,
    stock: Option<i64>,
    held: Option<i64>,
    kept: i64,
    sold: i64,
}

impl Sums {
    fn describe(&self) -> String {
        let Self { id, kept, sold, .. } = self;
        let Some(left) = self.stock else { return format!("product {id} is gone") };
        let number = |it: Option<i64>| it.map_or_else(|| "nothing".to_owned(), |it| it.to_string());
        let (least, most) = (number(self.least), number(self.most));
        let told = if least == most { least } else { format!("{least} to {most}") };
        format!(
            "product {id}: {} put in by the ledger and {told} by the log, {left} left, {} said to be held \
             and {kept} in holds, {sold} in orders",
            number(self.units),
            number(self.held),
        )
    }
}

/// Each entry of the ledger follows from the previous one, and the last one equals the current product.
async fn ledger(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    let wrong: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT entry.id, entry.version FROM ( \
             SELECT product_id AS id, version, reason, delta, sold, returned, ledger.held, \
                 stock_after, held_after, \
                 lag(stock_after, 1, 0) OVER chain AS stock_before, \
                 lag(held_after, 1, 0) OVER chain AS held_before, \
                 lead(version) OVER chain IS NULL AS last \
             FROM stock_ledger AS ledger \
             WINDOW chain AS (PARTITION BY product_id ORDER BY version)) AS entry \
             LEFT JOIN products USING (id) \
         WHERE entry.stock_after <> entry.stock_before + entry.delta \
             OR (reason = 'admission' AND (entry.delta <> returned - sold - entry.held \
                 OR entry.held_after <> entry.held_before + entry.held)) \
             OR (last AND (products.stock + products.sold_since_entry IS DISTINCT FROM entry.stock_after \
                 OR products.held IS DISTINCT FROM entry.held_after))",
    )
    .fetch_all(connection)
    .await?;
    let wrong = wrong.iter().map(|(id, version)| format!("product {id} at version {version}"));
    findings.broken("entries of the ledger do not follow from the previous ones", wrong.collect());
    Ok(())
}
