//! A measurement: runs the load generator, and reads CPU time and memory before and after it.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

use super::Bench;
use crate::environment::BenchFixture;
use crate::load::{self, ClientGroup, LoadPlan, LoadReport};
use crate::processes::{Usage, Watched, memory_mib};
use crate::report::model::Point;

/// The CPU time per answer, in microseconds, by process.
pub(super) fn cpu_us(
    cpu: &BTreeMap<&'static str, Duration>,
    answers: f64,
) -> BTreeMap<String, f64> {
    cpu.iter()
        .map(|(name, time)| ((*name).to_owned(), time.as_secs_f64() * 1e6 / answers))
        .filter(|(_, time)| time.is_finite())
        .collect()
}

/// The result of a run of the generator.
pub(super) struct Measured {
    pub report: LoadReport,
    cpu: BTreeMap<&'static str, Duration>,
    /// The percentage of all processors that other processes used.
    others_cpu_percent: f64,
    memory_mib: BTreeMap<&'static str, f64>,
}

impl Measured {
    /// Converts it into a point for the first group of clients. CPU time is divided by the answers to all groups.
    pub fn point(&self, part: &str) -> anyhow::Result<Point> {
        let first = self.report.groups.first().context("a plan without groups")?;
        let mut point = Point { part: part.to_owned(), ..Point::default() }.with_report(first);
        let answers: u64 =
            self.report.groups.iter().flat_map(|group| group.statuses.values()).sum();
        point.cpu_us = cpu_us(&self.cpu, answers as f64);
        point.others_cpu_percent = self.others_cpu_percent;
        point.memory_mib =
            self.memory_mib.iter().map(|(name, mib)| ((*name).to_owned(), *mib)).collect();
        Ok(point)
    }
}

impl Bench {
    /// Runs a plan, and measures these processes in the meantime.
    ///
    /// # Errors
    /// The generator cannot connect.
    pub(super) async fn measure(
        &self,
        plan: LoadPlan,
        watched: Vec<Watched>,
    ) -> anyhow::Result<Measured> {
        // Reading /proc takes a while, so this does not happen on the generator's thread.
        let (ends, end) = mpsc::channel::<bool>();
        let watching = tokio::task::spawn_blocking(move || {
            let mut before = None;
            let mut sample = None;
            while let Ok(begins) = end.recv() {
                if begins {
                    before = Some(Usage::so_far(&watched));
                } else if let Some(before) = &before {
                    sample = Some((Usage::since(before, &watched), memory_mib(&watched)));
                }
            }
            sample
        });
        let report = tokio::task::spawn_blocking(move || {
            let report = load::run(&plan, |begins| {
                // The sampler ends when the channel is dropped.
                let _ = ends.send(begins);
            });
            drop(ends);
            report
        })
        .await??;
        let ((cpu, others_cpu_percent), memory_mib) =
            watching.await?.context("the generator did not say when it measured")?;
        Ok(Measured { report, cpu, others_cpu_percent, memory_mib })
    }

    /// Runs one group of clients in a closed loop against a fixture, and logs the answers. Returns the point without
    /// recording it.
    ///
    /// # Errors
    /// The generator cannot connect.
    pub(super) async fn closed_loop(
        &self,
        fixture: &mut BenchFixture,
        part: &str,
        group: ClientGroup,
    ) -> anyhow::Result<Point> {
        let connections = group.connections;
        let plan = LoadPlan::closed(group, self.settings.warm_up, self.settings.measured);
        let measured = self.measure(plan, self.watched(fixture).await?).await?;
        fixture.log.add(&measured.report);
        let mut point = measured.point(part)?;
        point.connections = connections as u32;
        describe(fixture, &mut point);
        Ok(point)
    }

    /// The processes of a fixture.
    ///
    /// # Errors
    /// A server is down.
    pub(super) async fn watched(&self, fixture: &BenchFixture) -> anyhow::Result<Vec<Watched>> {
        let mut watched = self.environment.watched().await?;
        watched.extend(fixture.watched());
        Ok(watched)
    }
}

/// Sets the fields that depend on the fixture.
pub(super) fn describe(fixture: &BenchFixture, point: &mut Point) {
    point.products = fixture.product_ids.len() as u32;
    point.replicas = fixture.targets().len() as u32;
    point.workers = fixture.watched().iter().filter(|it| it.name == "worker").count() as u32;
}

pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Interpolates between the two nearest of sorted values.
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let at = part * values.len().saturating_sub(1) as f64;
    match (values.get(at.floor() as usize), values.get(at.ceil() as usize)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let close = |value: f64, other: f64| (value - other).abs() < 1e-9;
        assert!(close(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0));
        assert!(close(quantile(&[1.0, 2.0], 0.5), 1.5));
        assert!(close(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
