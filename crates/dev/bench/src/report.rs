//! Reports: the model, the goals, and each output format.
//!
//! | file | subject |
//! |---|---|
//! | `model` | a run and its points, as in `latest.json` |
//! | `machine` | the machine of the run |
//! | `goals` | the target figures, as ratios within the run |
//! | `numbers` | formatting of figures |
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
