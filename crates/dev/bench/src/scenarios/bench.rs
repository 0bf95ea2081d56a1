//! A run in progress.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::settings::Settings;
use super::{ALL, Scenario};
use crate::audit::{Expectation, audit};
use crate::environment::{BenchEnvironment, BenchFixture};
use crate::report::machine::Machine;
use crate::report::model::{PartAudit, Point, Run};
use crate::report::terminal;

/// A run in progress: the servers and the results so far.
pub struct Bench {
    /// The servers.
    pub environment: BenchEnvironment,
    /// The durations and repetitions.
    pub settings: Settings,
    /// The round, from 1.
    pub round: u32,
    /// The folder for the logs of parts with violations.
    pub out: PathBuf,
    /// The results so far.
    pub run: Run,
    started: Instant,
}

impl Bench {
    /// Starts the servers.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(settings: Settings, command: String, out: PathBuf) -> anyhow::Result<Self> {
        let started = Instant::now();
        let environment = BenchEnvironment::start().await?;
        let machine = Machine::look(&environment).await?;
        let run = Run {
            command,
            quick: settings.quick,
            started_at: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            duration_s: 0.0,
            machine,
            points: Vec::new(),
            audits: Vec::new(),
            failures: Vec::new(),
        };
        Ok(Self { environment, settings, round: 1, out, run, started })
    }

    /// Starts the servers for this build of the API.
    ///
    /// # Errors
    /// Something does not start.
    pub(super) async fn start_for(
        settings: Settings,
        api: &Path,
        out: &Path,
    ) -> anyhow::Result<Self> {
        let mut bench = Self::start(settings, String::new(), out.to_owned()).await?;
        api.clone_into(&mut bench.environment.api);
        Ok(bench)
    }

    /// Stops the servers.
    ///
    /// # Errors
    /// They do not end.
    pub(super) async fn stop(self) -> anyhow::Result<Run> {
        let Self { environment, run, .. } = self;
        environment.redis.shutdown().await?;
        environment.postgres.shutdown().await?;
        Ok(run)
    }

    /// Runs the parts with these names in all rounds, or all parts if there are no names. If a part cannot be run, or a
    /// guarantee is violated, the results show it and the other parts still run.
    ///
    /// # Errors
    /// The servers do not end.
    pub async fn run(mut self, only: &[String]) -> anyhow::Result<Run> {
        let chosen: Vec<&Scenario> = ALL
            .iter()
            .filter(|part| only.is_empty() || only.iter().any(|name| name == part.name))
            .collect();
        for round in 1..=self.settings.rounds {
            self.round = round;
            for part in chosen.iter().filter(|part| round == 1 || part.every_round) {
                self.note(&format!("round {round}: {}", part.about));
                if let Err(error) = (part.run)(&mut self).await {
                    let failure = format!("{}, round {round}: {error:#}", part.name);
                    self.note(&format!("  FAILED: {failure}"));
                    self.run.failures.push(failure);
                }
            }
        }
        self.run.duration_s = self.started.elapsed().as_secs_f64();
        self.stop().await
    }

    /// Prints a line of progress.
    pub fn note(&self, text: &str) {
        eprintln!("[{:6.1} s] {text}", self.started.elapsed().as_secs_f64());
    }

    /// Records a point and prints it.
    pub fn record(&mut self, mut point: Point) {
        point.round = self.round;
        self.note(&terminal::progress(&point));
        self.run.points.push(point);
    }

    /// Stops a fixture, audits it and removes its database. If a guarantee is violated, the clients' log is kept beside
    /// the results.
    ///
    /// # Errors
    /// A process of the fixture has died, or the database cannot be asked.
    pub async fn close(
        &mut self,
        mut fixture: BenchFixture,
        part: &str,
        expectation: Expectation,
    ) -> anyhow::Result<()> {
        fixture.stop().await?;
        let findings = audit(&fixture.database_url, Some(&fixture.log), expectation).await?;
        self.note(&format!("  audit: {findings}"));
        if !findings.hold() {
            fs::create_dir_all(&self.out)?;
            let path = self.out.join(format!("broken-{part}-{}.log", self.round));
            let mut file = BufWriter::new(File::create(&path)?);
            fixture.log.write(&mut file)?;
            file.flush()?;
            self.note(&format!("  the clients' log is in {}", path.display()));
        }
        self.run.audits.push(PartAudit { part: part.to_owned(), round: self.round, findings });
        self.environment.drop_database(&fixture.database_url).await
    }
}
