//! Workloads in a closed loop: clients send the same kind of requests, and no worker runs.

use std::sync::Arc;

use super::Bench;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::environment::{BenchFixture, FixtureOptions};
use crate::load::{Choice, ClientGroup, Pace, Requests};
use crate::report::model::part;

const BY_RANK: Choice = Choice::Zipf { exponent: 1.1 };

/// What clients do, and with which fixture.
#[derive(Clone, Copy)]
pub(super) struct ClientWork {
    pub part: &'static str,
    pub products: u32,
    pub replicas: u32,
    /// Creates the requests for the products of a fixture.
    pub requests: fn(&[i64]) -> Requests,
}

/// One hot product.
pub(super) const HOT: ClientWork = ClientWork {
    part: part::HOT,
    products: 1,
    replicas: 1,
    requests: |ids| Requests::orders(ids, Choice::Uniform),
};

/// The same with an `Idempotency-Key` in each order.
pub(super) const KEYS: ClientWork = ClientWork {
    part: part::KEYS,
    requests: |ids| Requests::orders(ids, Choice::Uniform).with_keys(),
    ..HOT
};

/// 1,000 products with the same probability.
pub(super) const UNIFORM: ClientWork =
    ClientWork { part: part::UNIFORM, products: PRODUCTS, ..HOT };

/// 1,000 products by Zipf's law.
pub(super) const ZIPF: ClientWork =
    ClientWork { part: part::ZIPF, requests: |ids| Requests::orders(ids, BY_RANK), ..UNIFORM };

/// 95 reads for every five orders, as on an ordinary day.
pub(super) const MIX: ClientWork =
    ClientWork { part: part::MIX, requests: |ids| Requests::mix(ids, BY_RANK, 0.95), ..UNIFORM };

/// Reads of cached products.
pub(super) const READS: ClientWork = ClientWork {
    part: part::READS,
    requests: |ids| Requests::reads(ids, Choice::Uniform),
    ..UNIFORM
};

impl ClientWork {
    /// Clients with this number of connections.
    pub fn clients(&self, fixture: &BenchFixture, connections: usize) -> ClientGroup {
        ClientGroup {
            name: self.part,
            targets: fixture.targets(),
            connections,
            requests: Arc::new((self.requests)(&fixture.product_ids)),
            pace: Pace::Closed,
        }
    }

    /// The fixture that it needs.
    pub fn options(&self) -> FixtureOptions {
        FixtureOptions { products: self.products, replicas: self.replicas }
    }
}

/// Clients that order all products with the same probability.
pub(super) fn orders(
    fixture: &BenchFixture,
    part: &'static str,
    connections: usize,
) -> ClientGroup {
    ClientWork { part, ..HOT }.clients(fixture, connections)
}

impl Bench {
    /// Measures a workload at the connections of this round: the sweep, or those that the goals need.
    pub(super) async fn sweep(&mut self, work: ClientWork, needed: &[usize]) -> anyhow::Result<()> {
        for connections in self.settings.connections(self.round, needed) {
            if connections >= work.replicas as usize {
                self.at(work, connections).await?;
            }
        }
        Ok(())
    }

    /// Measures a workload with its own fixture, so that no measurement has the rows of another.
    pub(super) async fn at(&mut self, work: ClientWork, connections: usize) -> anyhow::Result<()> {
        let fixture = self.environment.open_fixture(work.options()).await?;
        let group = work.clients(&fixture, connections);
        self.measure_and_close(fixture, group, Expectation::default()).await
    }

    /// Measures a group of clients in a closed loop, records the point, and closes the fixture.
    pub(super) async fn measure_and_close(
        &mut self,
        mut fixture: BenchFixture,
        group: ClientGroup,
        expectation: Expectation,
    ) -> anyhow::Result<()> {
        let part = group.name;
        let point = self.closed_loop(&mut fixture, part, group).await?;
        self.record(point);
        self.close(fixture, part, expectation).await
    }

    /// Two replicas on one database: one hot product, for which they alternate, and 1,000 products.
    pub(super) async fn two_replicas(&mut self) -> anyhow::Result<()> {
        self.sweep(ClientWork { replicas: 2, ..HOT }, &[CONNECTIONS]).await?;
        // The other one has no goal.
        if self.round == 1 {
            self.sweep(ClientWork { replicas: 2, ..UNIFORM }, &[CONNECTIONS]).await?;
        }
        Ok(())
    }
}
