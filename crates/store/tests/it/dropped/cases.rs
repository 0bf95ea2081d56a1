//! A call of each method, with data that no other call uses.

use std::time::Duration;

use futures::future::LocalBoxFuture;
use holdfast_domain::{
    CustomerLimit, CustomerRef, OrderId, ProductChanges, Sale, Stock, StockEdit,
};
use holdfast_store::{
    ApiKeyRecord, ArchivePlace, Attribution, DeadLetterPage, HoldPage, IdempotencyKey, LockMode,
    MissedRows, OrderPage, ProductPage, SaleSecond, WantedRows,
    fulfilment::{AttemptResult, SweepRule},
};
use jiff::{SignedDuration, Timestamp};

use super::{PATIENCE, given::Given};
use crate::fixture::{new_product, wanted, write_one_each};

const DAY: Duration = Duration::from_hours(24);
const OPERATOR: Attribution<'static> = Attribution { by: "eve", note: None };

/// A query that returns true after the method was answered.
pub type MethodResult = Option<String>;

pub struct MethodCase {
    pub method: &'static str,
    pub call: fn(Given) -> LocalBoxFuture<'static, MethodResult>,
}

macro_rules! cases {
    ($($method:path, $given:ident => $call:block)*) => {
        vec![$(MethodCase {
            method: stringify!($method),
            call: |$given| Box::pin(async move $call),
        }),*]
    };
}

#[allow(clippy::too_many_lines)] // a few for each method
pub fn cases() -> Vec<MethodCase> {
    cases! {
        Store::ping, it => { it.store.ping().await.unwrap(); None }
        Store::replicated, it => { it.store.replicated().await.unwrap(); None }
        Store::close, it => {
            // Methods that need a separate store.
            let own = it.store.clone();
            own.ping().await.unwrap();
            own.close().await;
            None
        }
        Store::watch_read_replicas, it => { it.store.watch_read_replicas().await; None }
        Store::clock, it => { it.store.clock().await.unwrap(); None }
        Store::migrate, it => { it.store.migrate().await.unwrap(); None }
        Store::diagnose, it => { it.store.diagnose().await.unwrap(); None }
        Store::check_pooler, it => { it.store.check_pooler().await.unwrap(); None }
        Store::check_schema, it => { it.store.check_schema().await.unwrap(); None }

        Store::create_product, it => {
            let made = it.store.create_product(&new_product(it.number)).await.unwrap();
            Some(format!("EXISTS (SELECT FROM products WHERE id = {} AND stock = {})", made.id, it.number))
        }
        Store::product, it => { it.store.product(it.product).await.unwrap().unwrap(); None }
        Store::product_versions, it => {
            it.store.product_versions(&[it.product.0]).await.unwrap();
            None
        }
        Store::products, it => {
            let page = ProductPage { limit: 10, in_stock: Some(true), ..ProductPage::default() };
            it.store.products(&page).await.unwrap();
            None
        }
        Store::seen, it => {
            let missed = MissedRows { products: [it.product].into(), ..MissedRows::default() };
            assert_eq!(it.store.seen(&missed).await.unwrap().products.len(), 1);
            None
        }
        Store::stock_levels, it => { it.store.stock_levels(None, 10).await.unwrap(); None }
        Store::taken_keys, it => {
            let key = IdempotencyKey::new("test", &it.key, b"");
            assert!(it.store.taken_keys(&[key]).await.unwrap().is_empty());
            None
        }
        Store::migrate_within, it => { it.store.migrate_within(PATIENCE).await.unwrap(); None }
        Store::expired_holds, it => { it.store.expired_holds(None, &[], 10).await.unwrap(); None }
        Store::database_identity, it => { it.store.database_identity().await.unwrap(); None }
        Store::stock_ledger, it => { it.store.stock_ledger(it.product, None, 10).await.unwrap(); None }
        Store::stock_change, it => { it.store.stock_change(it.product, 1).await.unwrap(); None }
        Store::lock_product, it => {
            drop(it.store.lock_product(it.product).await.unwrap().unwrap());
            None
        }
        LockedProduct::update, it => {
            let locked = it.store.lock_product(it.product).await.unwrap().unwrap();
            let stock = Some(StockEdit::set(Stock::new(7).unwrap()));
            locked.update(&ProductChanges { stock, ..ProductChanges::default() }).await.unwrap();
            Some(format!("(SELECT stock = 7 FROM products WHERE id = {})", it.product))
        }
        LockedProduct::adjust, it => {
            let locked = it.store.lock_product(it.product).await.unwrap().unwrap();
            let edit = locked.stock_with(-3).unwrap();
            let key = IdempotencyKey::new("test", &it.key, b"");
            locked.adjust(&edit, Some(&key)).await.unwrap();
            Some(format!("(SELECT stock = 97 FROM products WHERE id = {})", it.product))
        }
        LockedProduct::retire, it => {
            it.store.lock_product(it.product).await.unwrap().unwrap().retire().await.unwrap();
            Some(format!("(SELECT retired_at IS NOT NULL FROM products WHERE id = {})", it.product))
        }

        Store::order, it => { it.store.order(it.pending).await.unwrap().unwrap(); None }
        Store::orders, it => {
            let page = OrderPage {
                limit: 10,
                product: Some(it.product),
                status: Some("pending".parse().unwrap()),
                ..OrderPage::default()
            };
            it.store.orders(&page).await.unwrap();
            None
        }
        Store::orders_exist, it => {
            let order = it.store.order(it.pending).await.unwrap().unwrap();
            let asked = [(order.id, Timestamp::UNIX_EPOCH), (order.id, order.created_at)];
            assert_eq!(it.store.orders_exist(&asked).await.unwrap(), [false, true]);
            None
        }
        Store::statuses, it => {
            assert_eq!(it.store.statuses(&[it.pending]).await.unwrap().len(), 1);
            None
        }
        Store::next_expiry, it => {
            assert!(it.store.next_expiry(it.product).await.unwrap().unwrap().after.is_some());
            None
        }
        Store::hold, it => { it.store.hold(it.hold).await.unwrap().unwrap(); None }
        Store::holds, it => {
            let page = HoldPage { limit: 10, status: Some("active".parse().unwrap()), ..HoldPage::default() };
            it.store.holds(&page).await.unwrap();
            None
        }
        Store::key_turn, it => {
            it.store.key_turn(&IdempotencyKey::new("test", &it.key, b"")).await.unwrap();
            None
        }
        Store::until_key_is_free, it => {
            let key = IdempotencyKey::new("test", &it.key, b"");
            let turn = it.store.key_turn(&key).await.unwrap();
            it.store.until_key_is_free(&turn).await.unwrap();
            None
        }
        Store::keyed, it => {
            it.store.keyed(&IdempotencyKey::new("test", &it.key, b"")).await.unwrap();
            None
        }
        Store::purge_idempotency_keys, it => {
            it.store.purge_idempotency_keys(DAY, 10).await.unwrap();
            Some("NOT EXISTS (SELECT FROM idempotency_keys WHERE created_at < now() - interval '2 days')".to_owned())
        }

        Store::lock_batch, it => {
            drop(it.store.lock_batch(&wanted(&[it.product]), LockMode::Skip).await.unwrap());
            None
        }
        Batch::release, it => {
            let batch = it.store.lock_batch(&wanted(&[it.product]), LockMode::Wait).await.unwrap();
            batch.release().await.unwrap();
            None
        }
        Batch::look_up, it => {
            let key = IdempotencyKey::new("test", &it.key, b"");
            let mut batch = it.store.lock_batch(&wanted(&[it.product]), LockMode::Wait).await.unwrap();
            batch.look_up(&[key]).await.unwrap();
            batch.release().await.unwrap();
            None
        }
        Batch::expired_holds, it => {
            let mut batch = it.store.lock_batch(&wanted(&[it.product]), LockMode::Wait).await.unwrap();
            assert_eq!(batch.expired_holds(&[(it.product, 10)]).await.unwrap().len(), 1);
            None
        }
        Batch::count_customer_totals, it => {
            let mut batch = it.store.lock_batch(&wanted(&[it.product]), LockMode::Wait).await.unwrap();
            let limits = CustomerLimit { units: 1, since: Timestamp::UNIX_EPOCH, after_order: 0 };
            let eve = CustomerRef::new("eve".to_owned()).unwrap();
            batch.count_customer_totals(&[(it.product, limits)], &[eve].into()).await.unwrap();
            None
        }
        Batch::write, it => {
            let batch = it.store.lock_batch(&wanted(&[it.product]), LockMode::Wait).await.unwrap();
            drop(write_one_each(batch, &[it.product]).await);
            None
        }
        Writing::commit, it => {
            let wanted = WantedRows { holds: [it.hold].into(), ..wanted(&[it.product]) };
            let batch = it.store.lock_batch(&wanted, LockMode::Wait).await.unwrap();
            let ids = write_one_each(batch, &[it.product]).await.commit().await.unwrap();
            Some(format!("EXISTS (SELECT FROM orders WHERE id = {})", ids[0]))
        }
        Store::outcome, it => { it.store.outcome(&it.token).await; None }

        Store::claim, it => {
            assert_eq!(it.store.claim(&[it.pending], DAY).await.unwrap().len(), 1);
            Some(format!("(SELECT status = 'processing' FROM orders WHERE id = {})", it.pending))
        }
        Store::claimed, it => {
            assert_eq!(it.store.claimed(&[it.pending], 1024).await.unwrap().len(), 1);
            None
        }
        Store::extend, it => {
            let claims = it.store.claim(&[it.pending], DAY).await.unwrap();
            assert_eq!(it.store.extend(&[claims[0].id()], 3 * DAY).await.unwrap().done.len(), 1);
            Some(format!("(SELECT lease_until > now() + interval '2 days' FROM orders WHERE id = {})", it.pending))
        }
        Store::finish, it => {
            let claims = it.store.claim(&[it.pending], DAY).await.unwrap();
            let (order, attempt) = claims[0].id();
            it.store.finish(&[(order, attempt, AttemptResult::Completed).into()]).await.unwrap();
            Some(format!("(SELECT status = 'completed' FROM orders WHERE id = {})", it.pending))
        }
        Store::sweep, it => {
            let rule = SweepRule {
                waiting: Duration::ZERO,
                lost_after: Duration::ZERO,
                lost_before: None,
                horizon: DAY,
                limit: 1000,
            };
            it.store.sweep(rule, None).await.unwrap();
            Some(format!("(SELECT next_attempt_at IS NOT NULL FROM orders WHERE id = {})", it.pending))
        }
        Store::set_aside, it => {
            it.store.set_aside(DAY, OrderId(0), 10).await.unwrap();
            None
        }
        Store::count_unfinished, it => { it.store.count_unfinished(None).await.unwrap(); None }

        Store::refresh_statistics, it => { it.store.refresh_statistics().await.unwrap(); None }

        Store::dead_letters, it => {
            let page = DeadLetterPage { limit: 10, ..DeadLetterPage::default() };
            it.store.dead_letters(&page).await.unwrap();
            None
        }
        Store::count_dead_letters, it => { it.store.count_dead_letters(10).await.unwrap(); None }
        Store::replay, it => {
            it.store.replay(&[it.failed], OPERATOR).await.unwrap();
            Some(format!("(SELECT status = 'pending' FROM orders WHERE id = {})", it.failed))
        }
        Store::replay_page, it => {
            let page = DeadLetterPage { limit: 1000, ..DeadLetterPage::default() };
            it.store.replay_page(&page, OPERATOR).await.unwrap();
            Some("NOT EXISTS (SELECT FROM orders WHERE status = 'failed')".to_owned())
        }

        Store::live_api_keys, it => { it.store.live_api_keys().await.unwrap(); None }
        Store::api_keys, it => { it.store.api_keys(None, 10).await.unwrap(); None }
        Store::make_api_key, it => {
            it.store.make_api_key(&new_key(&it.key)).await.unwrap().unwrap();
            Some(format!("EXISTS (SELECT FROM api_keys WHERE id = '{}')", it.key))
        }
        Store::revoke_api_key, it => {
            it.store.make_api_key(&new_key(&it.key)).await.unwrap().unwrap();
            it.store.revoke_api_key(&it.key).await.unwrap().unwrap();
            Some(format!("(SELECT revoked_at IS NOT NULL FROM api_keys WHERE id = '{}')", it.key))
        }

        Store::put_sale, it => {
            it.store.put_sale(&sale(&it)).await.unwrap();
            Some(format!("EXISTS (SELECT FROM sales WHERE name = '{}')", it.sale.as_str()))
        }
        Store::delete_sale, it => {
            it.store.put_sale(&sale(&it)).await.unwrap();
            assert!(it.store.delete_sale(&it.sale).await.unwrap());
            Some(format!("NOT EXISTS (SELECT FROM sales WHERE name = '{}')", it.sale.as_str()))
        }
        Store::sale, it => { it.store.sale(&it.sale).await.unwrap(); None }
        Store::sales, it => { it.store.sales(10).await.unwrap(); None }
        Store::products_of_sales_within, it => {
            it.store.products_of_sales_within(DAY, 10).await.unwrap();
            None
        }
        Store::sale_report, it => {
            it.store.put_sale(&sale(&it)).await.unwrap();
            it.store.sale_report(&it.sale).await.unwrap().unwrap();
            Some(format!("EXISTS (SELECT FROM sales WHERE name = '{}')", it.sale.as_str()))
        }
        Store::record_sale_seconds, it => {
            let second = SaleSecond::new(it.product, Timestamp::now());
            it.store.record_sale_seconds(uuid::Uuid::from_u128(1), &[second]).await.unwrap();
            Some(format!("EXISTS (SELECT FROM sale_seconds WHERE product_id = {})", it.product))
        }
        Store::forget_sale_seconds, it => {
            it.store.forget_sale_seconds(Duration::ZERO).await.unwrap();
            Some("NOT EXISTS (SELECT FROM sale_seconds WHERE second < now() - interval '1 minute')".to_owned())
        }

        Store::archive, it => { drop(it.store.archive().await.unwrap()); None }
        Archive::cutoff, it => { archive(&it).await.cutoff(DAY).await.unwrap(); None }
        Archive::next, it => {
            let mut archive = archive(&it).await;
            let cutoff = archive.cutoff(DAY).await.unwrap();
            archive.next(cutoff, ArchivePlace::default(), 10).await.unwrap();
            None
        }
        Archive::knows, it => { archive(&it).await.knows("none").await.unwrap(); None }
        Archive::remove, it => {
            let mut archive = archive(&it).await;
            let cutoff = archive.cutoff(DAY).await.unwrap();
            archive.remove(&it.key, cutoff, &[it.old]).await.unwrap();
            Some(format!("NOT EXISTS (SELECT FROM orders WHERE id = {})", it.old))
        }
        Archive::close, it => { archive(&it).await.close().await.unwrap(); None }

        Probe::ask, it => {
            let mut probe = it.store.probe();
            probe.ask(PATIENCE).await.unwrap();
            probe.ask(PATIENCE).await.unwrap();
            None
        }
    }
}

/// The lock for archiving, which a dropped call may hold for a moment.
async fn archive(given: &Given) -> holdfast_store::Archive {
    loop {
        if let Some(archive) = given.store.archive().await.unwrap() {
            return archive;
        }
        tokio::task::yield_now().await;
    }
}

fn new_key(id: &str) -> ApiKeyRecord<'_> {
    ApiKeyRecord {
        id,
        secret_sha256: [7; 32],
        name: "test",
        scopes: vec!["orders:read".to_owned()],
        customer: None,
        rate_per_second: None,
        expires_at: None,
    }
}

fn sale(given: &Given) -> Sale {
    Sale {
        name: given.sale.clone(),
        products: [given.product].into(),
        starts_at: Timestamp::now().round(jiff::Unit::Second).unwrap(),
        ends_at: Timestamp::now().round(jiff::Unit::Second).unwrap()
            + SignedDuration::from_hours(1),
        per_customer: None,
        held_back: false,
    }
}
