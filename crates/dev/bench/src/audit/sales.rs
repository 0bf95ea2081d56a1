//! Flash sales that clients have recorded and deleted.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::write::{LoggedSale, Write};
use super::{Findings, Log};

/// The possible states of a sale; `None` if it must not exist.
#[derive(Default)]
struct ExpectedSale<'a> {
    /// The state in the last answer.
    last: Option<&'a LoggedSale>,
    /// The states in requests without an answer.
    unanswered: Vec<Option<&'a LoggedSale>>,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut known: BTreeMap<&str, ExpectedSale<'_>> = BTreeMap::new();
    for (write, answered) in log.writes() {
        let (name, sale) = match write {
            Write::PutSale { name, sale } => (name, Some(sale)),
            Write::DeleteSale { name } => (name, None),
            _ => continue,
        };
        let known = known.entry(name).or_default();
        if answered {
            known.last = sale;
        } else {
            known.unanswered.push(sale);
        }
    }
    let sales = sales(connection, &known.keys().copied().collect::<Vec<_>>()).await?;
    let mut lost = Vec::new();
    for (name, known) in known {
        let stands = sales.get(name);
        if stands != known.last && !known.unanswered.contains(&stands) {
            lost.push(format!("sale `{name}` is {stands:?}, and not {:?}", known.last));
        }
    }
    findings.missing("answered sales are missing or differ from the last answer", lost);
    on_products(connection, findings).await
}

/// Name, limit for each customer, whether it stays closed, start, end, products.
type AuditedSale = (String, Option<i32>, bool, String, String, Vec<i64>);

async fn sales(
    connection: &mut PgConnection,
    names: &[&str],
) -> anyhow::Result<HashMap<String, LoggedSale>> {
    let rows: Vec<AuditedSale> = sqlx::query_as(
        "SELECT name, per_customer, held_back, \
             to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS starts_at, \
             to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS ends_at, \
             ARRAY(SELECT product_id FROM sale_products WHERE sale_id = sales.id ORDER BY 1) AS products \
         FROM sales WHERE name = ANY($1)",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    let sale = |(name, per_customer, held_back, starts_at, ends_at, products): AuditedSale| {
        (name, LoggedSale { products, starts_at, ends_at, per_customer, held_back })
    };
    Ok(rows.into_iter().map(sale).collect())
}

/// The number of sales in each product's row is correct.
async fn on_products(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM products LEFT JOIN \
             (SELECT product_id AS id, count(*) AS sales FROM sale_products GROUP BY 1) AS told USING (id) \
         WHERE coalesce(jsonb_array_length(products.sales), 0) <> coalesce(told.sales, 0)",
    )
    .fetch_all(connection)
    .await?;
    let ids = ids.into_iter().map(|id| format!("product {id}"));
    findings.broken("products have a wrong number of sales", ids.collect());
    Ok(())
}
