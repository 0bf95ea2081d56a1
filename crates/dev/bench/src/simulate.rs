//! Simulations of setups that cannot be measured on one machine: a database with a higher latency, products spread over
//! several databases, the stock of one product in several rows.
//!
//! Each simulation is short and has a fixed seed, so that it always produces the same table. What it takes from
//! measurements is a constant with its source.

pub mod buckets;
pub mod distance;
pub mod shards;

/// All tables, as Markdown.
pub fn render() -> String {
    let parts = [distance::render(), shards::render(), buckets::render()];
    parts.join("\n")
}

/// A Markdown table with right-aligned columns.
fn table(heads: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let ruler = format!("|{}\n", "--:|".repeat(heads.len()));
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{ruler}{body}", line(heads))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_has_the_tables_of_the_simulation() {
        let document = include_str!("../../../../docs/scale.md");
        for part in [super::distance::render(), super::shards::render(), super::buckets::render()] {
            assert!(
                document.contains(part.trim()),
                "docs/scale.md is out of date: paste the output of `holdfast-bench simulate`:\n{part}"
            );
        }
    }
}
