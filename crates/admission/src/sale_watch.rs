//! Counts the events of products in flash sales on this replica, per second, for the reports of the sales.
//!
//! The counts are kept in memory and written once a second. They are only for display: a replica that is killed loses
//! those of its last seconds, and no decision depends on them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast_domain::ProductId;
use holdfast_store::{SaleSecond, Store};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::decision::Refusal;

/// The most products that are watched at the same time.
const PRODUCTS_MAX: usize = 1024;
/// A product is no longer watched if no batch has found it in a sale for this long.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);
/// The longest wait for the database. Counts that are not written in this time are dropped.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// How long counts are kept in the database.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);
/// How often older counts are deleted, in seconds.
const DELETE_EVERY: u64 = 600;

/// The products of a request.
pub(crate) type Products = smallvec::SmallVec<[ProductId; 1]>;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SaleWatch {
    seen: Arc<SaleCounts>,
    // Held for its drop.
    _writing: Arc<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct SaleCounts {
    /// Whether any product is watched. If not, `SaleWatch::ended` takes no lock.
    any: AtomicBool,
    /// Products in sales, and the time at which a batch last found them in a sale.
    known: RwLock<HashMap<ProductId, Timestamp>>,
    seconds: Mutex<BTreeMap<(Timestamp, ProductId), SaleSecond>>,
}

impl SaleWatch {
    /// Must be called within a tokio runtime.
    pub fn start(store: Store) -> Self {
        let seen = Arc::<SaleCounts>::default();
        let writing = tokio::spawn(write(Arc::clone(&seen), store));
        Self { seen, _writing: Arc::new(AbortOnDropHandle::new(writing)) }
    }

    /// Records that a batch has found these products in sales, and how long it waited for its locks.
    pub fn found(&self, products: impl Iterator<Item = ProductId>, wait: Duration) {
        let now = Timestamp::now();
        for product_id in products {
            let watched = {
                let mut known = self.seen.known.write();
                let watched = known.len() < PRODUCTS_MAX || known.contains_key(&product_id);
                if watched {
                    known.insert(product_id, now);
                }
                watched
            };
            self.seen.any.store(true, Ordering::Relaxed);
            if watched {
                self.seen.count(product_id, now, |second| second.waited(wait));
            }
        }
    }

    /// Counts a request for products in sales, if it was accepted as a new order or hold, or if it was refused.
    pub fn ended(&self, products: &Products, ended: Result<(), Refusal>) {
        if !self.seen.any.load(Ordering::Relaxed) {
            return;
        }
        let now = Timestamp::now();
        let known = self.seen.known.read();
        for product_id in products.iter().filter(|product_id| known.contains_key(product_id)) {
            self.seen.count(*product_id, now, |second| match ended {
                Ok(()) => second.accepted += 1,
                Err(refusal) => *second.refused.entry(refusal.reason()).or_default() += 1,
            });
        }
    }
}

impl SaleCounts {
    fn count(&self, product_id: ProductId, now: Timestamp, count: impl FnOnce(&mut SaleSecond)) {
        let Ok(second) = Timestamp::from_second(now.as_second()) else { return };
        let mut seconds = self.seconds.lock();
        count(
            seconds
                .entry((second, product_id))
                .or_insert_with(|| SaleSecond::new(product_id, second)),
        );
    }

    /// The counts of past seconds.
    fn over(&self) -> Vec<SaleSecond> {
        let Ok(now) = Timestamp::from_second(Timestamp::now().as_second()) else {
            return Vec::new();
        };
        let mut seconds = self.seconds.lock();
        let going_on = seconds.split_off(&(now, ProductId(0)));
        std::mem::replace(&mut *seconds, going_on).into_values().collect()
    }

    fn forget(&self) {
        let mut known = self.known.write();
        let now = Timestamp::now();
        known.retain(|_, seen| now.duration_since(*seen).unsigned_abs() < FORGOTTEN_AFTER);
        self.any.store(!known.is_empty(), Ordering::Relaxed);
    }
}

/// Writes once a second until it is dropped.
async fn write(seen: Arc<SaleCounts>, store: Store) {
    let replica = Uuid::new_v4();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for round in 1_u64.. {
        seconds.tick().await;
        let over = seen.over();
        seen.forget();
        if over.is_empty() {
            continue;
        }
        let delete = round % DELETE_EVERY == 0;
        let writing = async {
            store.record_sale_seconds(replica, &over).await?;
            if delete { store.forget_sale_seconds(KEPT_FOR).await } else { Ok(0) }
        };
        match timeout(WRITE_LIMIT, writing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "the counts of flash sales were not written");
            }
            Err(_elapsed) => tracing::debug!("the counts of flash sales were not written in time"),
        }
    }
}
