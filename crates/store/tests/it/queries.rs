//! The statements that are checked at compile time: `.sqlx` contains PostgreSQL's description of
//! each.

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use sqlx::{Executor as _, SqlSafeStr as _};

use crate::fixture;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const REFRESH: &str = "type `make queries`";

/// The files of `.sqlx`, by name.
fn described() -> Vec<(String, Value)> {
    let files = fs::read_dir(Path::new(CRATE).join(".sqlx")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_descriptions_of_checked_statements_match_the_schema() {
    let store = fixture::store().await;
    let mut connection = store.pool().acquire().await.unwrap();
    let described = described();
    assert!(described.len() > 30, "{}", described.len());
    for (name, file) in described {
        let sql = file["query"].as_str().unwrap().to_owned();
        let text = sqlx::AssertSqlSafe(sql.clone()).into_sql_str();
        let now = (&mut *connection).describe(text).await.unwrap();
        let now = serde_json::to_value(now).unwrap();
        assert_eq!(now, file["describe"], "{name}: {REFRESH}\n{sql}");
    }
}

/// Adds all string literals of these tokens.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => literals(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push(text.value());
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn source_literals(folder: &Path, found: &mut Vec<String>) {
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            source_literals(&path, found);
        } else {
            literals(fs::read_to_string(&path).unwrap().parse().unwrap(), found);
        }
    }
}

/// Whether a text consists of one or more of these.
fn is_made_of(text: &str, literals: &[String]) -> bool {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for begin in 0..text.len() {
        if ends[begin] {
            for literal in literals.iter().filter(|literal| text[begin..].starts_with(*literal)) {
                ends[begin + literal.len()] = true;
            }
        }
    }
    ends[text.len()]
}

/// The compiler finds missing descriptions, but not superfluous ones.
#[test]
fn each_described_statement_is_in_the_sources() {
    let mut literals = Vec::new();
    source_literals(&Path::new(CRATE).join("src"), &mut literals);
    literals.retain(|literal| !literal.is_empty());
    for (name, file) in described() {
        let sql = file["query"].as_str().unwrap();
        assert!(is_made_of(sql, &literals), "{name} is left over: {REFRESH}\n{sql}");
    }
}
