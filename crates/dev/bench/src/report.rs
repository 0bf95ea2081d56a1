//! What is made of the figures: the model, the goals, and each form of output.
//!
//! | file | subject |
//! |---|---|
//! | `model` | a run and its points, as in `latest.json` |
//! | `machine` | what the run ran on |
//! | `goals` | the figures to reach, as ratios within the run |
//! | `numbers` | figures as people read them |
//! | `terminal` | the table at the end |
//! | `markdown` | `docs/benchmarks.md` |
//! | `chart` | `docs/benchmarks.svg` |

pub mod chart;
pub mod goals;
pub mod machine;
pub mod markdown;
pub mod model;
pub mod numbers;
pub mod terminal;
