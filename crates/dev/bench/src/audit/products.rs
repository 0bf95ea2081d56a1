//! Products that clients have created, changed and deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{FromRow, PgConnection};

use super::write::Write;
use super::{Findings, Log};

/// A product in the database.
#[derive(FromRow)]
struct AuditedProduct {
    id: i64,
    version: i64,
    name: String,
    price_minor: i64,
    retired: bool,
}

/// A product according to the clients.
#[derive(Default)]
struct ExpectedProduct<'a> {
    created: bool,
    /// The last version in an answer, with its name and price.
    last: Option<(i64, &'a str, i64)>,
    /// Names and prices of requests without an answer.
    unanswered: Vec<(&'a str, i64)>,
    /// Its deletion was answered.
    deleted: bool,
    /// Its deletion was requested.
    to_be_deleted: bool,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let known = known(log);
    let ids: Vec<i64> = known.keys().copied().collect();
    let found: Vec<AuditedProduct> = sqlx::query_as(
        "SELECT id, version, name, price_minor, retired_at IS NOT NULL AS retired \
         FROM products WHERE id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let found: HashMap<_, _> = found.into_iter().map(|product| (product.id, product)).collect();
    let (mut lost, mut on_sale, mut retired) = (Vec::new(), Vec::new(), Vec::new());
    for (id, known) in &known {
        let Some(product) = found.get(id) else {
            lost.push(format!("product {id} does not exist"));
            continue;
        };
        lost.extend(known.change_lost(product).map(|what| format!("product {id} {what}")));
        if known.deleted && !product.retired {
            on_sale.push(format!("product {id}"));
        }
        if known.created && product.retired && !known.to_be_deleted {
            retired.push(format!("product {id}"));
        }
    }
    findings.missing("answered products or changes of them are missing", lost);
    findings.missing("deleted products are on sale", on_sale);
    findings.broken("products are deleted without a request", retired);
    unanswered(connection, log, findings).await
}

impl ExpectedProduct<'_> {
    /// The missing part of its last answered change.
    fn change_lost(&self, product: &AuditedProduct) -> Option<String> {
        let (version, name, price_minor) = self.last?;
        if product.version < version {
            return Some(format!("is at version {}, and {version} was answered", product.version));
        }
        // Orders increase the version too, but change neither name nor price.
        let stands = (product.name.as_str(), product.price_minor);
        let may_stand = stands == (name, price_minor) || self.unanswered.contains(&stands);
        (!may_stand).then(|| {
            format!("is `{}` at {}, and `{name}` at {price_minor} was answered", stands.0, stands.1)
        })
    }
}

fn known(log: &Log) -> BTreeMap<i64, ExpectedProduct<'_>> {
    let mut products: BTreeMap<i64, ExpectedProduct<'_>> = BTreeMap::new();
    for write in &log.answered {
        let (id, change) = match write {
            Write::CreateProduct { id: Some(id), name, price_minor, .. } => {
                products.entry(*id).or_default().created = true;
                (id, (1, name.as_str(), *price_minor))
            }
            Write::UpdateProduct { id, name, price_minor, version: Some(version), .. } => {
                (id, (*version, name.as_str(), *price_minor))
            }
            Write::DeleteProduct { id } => {
                let product = products.entry(*id).or_default();
                (product.deleted, product.to_be_deleted) = (true, true);
                continue;
            }
            _ => continue,
        };
        let last = &mut products.entry(*id).or_default().last;
        *last = (*last).max(Some(change));
    }
    for write in &log.unanswered {
        match write {
            Write::UpdateProduct { id, name, price_minor, .. } => {
                products.entry(*id).or_default().unanswered.push((name, *price_minor));
            }
            Write::DeleteProduct { id } => products.entry(*id).or_default().to_be_deleted = true,
            _ => {}
        }
    }
    products
}

/// Unanswered products exist at most once, with their initial data.
async fn unanswered(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut asked = BTreeMap::new();
    for write in &log.unanswered {
        if let Write::CreateProduct { name, price_minor, stock, .. } = write {
            asked.insert(name.as_str(), (*price_minor, *stock));
        }
    }
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT name, price_minor, coalesce(delta, -1) AS stock FROM products \
         LEFT JOIN stock_ledger ON product_id = id AND reason = 'opening' WHERE name = ANY($1)",
    )
    .bind(asked.keys().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let (mut seen, mut twice, mut parts) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (name, price_minor, stock) in rows {
        if asked.get(name.as_str()) != Some(&(price_minor, stock)) {
            parts.push(name.clone());
        }
        if !seen.insert(name.clone()) {
            twice.push(name);
        }
    }
    findings.broken("products were requested once and exist twice", twice);
    findings.broken("unanswered products exist in part", parts);
    Ok(())
}
