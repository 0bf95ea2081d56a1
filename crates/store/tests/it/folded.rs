//! Case-insensitive names, whatever the locale of the database.

use holdfast_domain::{MAX_NAME_CHARS, ProductId, ProductName};
use holdfast_store::{MigrateError, ProductPage, ProductPlace, Store};
use sqlx::AssertSqlSafe;

use crate::fixture;

/// A store on an empty database with this locale.
async fn database(name: &str, how: &str) -> Store {
    let server = holdfast_sandbox::shared_postgres().await.unwrap();
    let admin = Store::connect(&fixture::settings(&server.database_url("postgres")));
    let name = format!("folded_{name}_{}", std::process::id());
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0 {how}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(admin.pool()).await.unwrap();
    Store::connect(&fixture::settings(&server.database_url(&name)))
}

async fn named(store: &Store, name: &str) -> ProductId {
    let name = ProductName::new(name.to_owned()).unwrap();
    let new = holdfast_domain::ProductDraft { name, ..fixture::new_product(1) };
    store.create_product(&new).await.unwrap().id
}

/// The names of all products with this beginning, in pages of `limit`.
async fn found(store: &Store, begin: &str, limit: i64) -> Vec<String> {
    let name = Some(begin.parse().unwrap());
    let mut page = ProductPage { name, limit, ..ProductPage::default() };
    let mut names = Vec::new();
    loop {
        let part = store.products(&page).await.unwrap();
        names.extend(part.items.iter().map(|product| product.name.as_str().to_owned()));
        page.after = part.next;
        if page.after.is_none() {
            return names;
        }
    }
}

/// Names in several notations, each of which finds all others.
const SAME: [&[&str]; 12] = [
    &["Äpfel", "ÄPFEL", "äpfel", "A\u{308}pfel", "a\u{308}PFEL"],
    &["Straße", "STRASSE", "STRAẞE", "strasse"],
    &["Σίσυφος", "ΣΊΣΥΦΟΣ", "σίσυφοσ"],
    &["İzmir", "IZMIR", "izmir", "ızmır", "i\u{307}zmir", "İZMİR"],
    &["Ёлка", "ЁЛКА", "ёлка"],
    &["Čaj", "ČAJ", "čaj"],
    &["ნათურა", "ᲜᲐᲗᲣᲠᲐ"],
    &["Եւ", "ԵՒ", "և"],
    &["ﬁlter", "FILTER", "Filter"],
    &["Œuf", "ŒUF"],
    &["𐐀𐐁", "𐐨𐐩"],
    &["ランプ"],
];

async fn each_finds_all(store: &Store) {
    for names in SAME {
        for name in names {
            named(store, name).await;
        }
    }
    named(store, "Apfel").await;
    named(store, "Sisyphus").await;
    for names in SAME {
        let mut expected = names.to_vec();
        expected.sort_unstable();
        for (name, limit) in names.iter().zip((1..4).cycle()) {
            let mut all = found(store, name, limit).await;
            all.sort_unstable();
            assert_eq!(all, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn names_are_found_without_regard_to_case_in_any_language_in_a_database_of_locale_c() {
    let store = database("c", "LOCALE 'C' ENCODING 'UTF8'").await;
    store.migrate().await.unwrap();
    each_finds_all(&store).await;
    // The end of the searched text need not be the end of a word.
    assert_eq!(found(&store, "ΣΊΣ", 10).await.len(), 3);
    assert_eq!(found(&store, "σίς", 10).await.len(), 3);
    assert_eq!(found(&store, "STRAS", 10).await.len(), 4);
}

#[tokio::test]
async fn the_locale_of_the_database_does_not_matter() {
    let turkish = "LOCALE_PROVIDER icu ICU_LOCALE 'tr' LOCALE 'C' ENCODING 'UTF8'";
    let store = database("tr", turkish).await;
    store.migrate().await.unwrap();
    each_finds_all(&store).await;
}

/// For each character: case makes no difference, and folding twice changes nothing more.
#[tokio::test]
async fn no_character_has_a_case_that_matters() {
    let store = fixture::store().await;
    let expression: String = sqlx::query_scalar(
        "SELECT pg_get_expr(indexprs, indrelid) FROM pg_index \
         WHERE indexrelid = 'products_by_folded_name'::regclass",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    let sql = format!(
        "SELECT original FROM ( \
            SELECT original, folded, ( \
                SELECT array_agg({expression}) \
                FROM unnest(ARRAY[folded, lower(original COLLATE \"und-x-icu\"), \
                    upper(original COLLATE \"und-x-icu\"), initcap(original COLLATE \"und-x-icu\"), \
                    normalize(original, NFD)]) AS name \
            ) AS others \
            FROM ( \
                SELECT name AS original, {expression} AS folded \
                FROM (SELECT chr(code) AS name FROM generate_series(1, 131071) AS code \
                      WHERE code NOT BETWEEN 55296 AND 57343) AS characters \
            ) AS once \
        ) AS each WHERE NOT (folded = ALL (others))"
    );
    let mut transaction = store.pool().begin().await.unwrap();
    sqlx::query("SET LOCAL statement_timeout TO 0").execute(&mut *transaction).await.unwrap();
    let wrong: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *transaction).await.unwrap();
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn a_page_ends_where_the_next_begins_whatever_folding_makes_of_a_name() {
    let store = fixture::store().await;
    // Three times as long when it is folded.
    let long = "\u{1D160}".repeat(MAX_NAME_CHARS);
    for name in [&long, &long, "\u{1D158}\u{1D165}\u{1D16E}"] {
        named(&store, name).await;
    }
    let page =
        ProductPage { name: Some(long.parse().unwrap()), limit: 1, ..ProductPage::default() };
    let next = store.products(&page).await.unwrap().next.unwrap();
    assert!(next.name.len() <= 4 * MAX_NAME_CHARS, "{}", next.name.len());
    assert_eq!(found(&store, "\u{1D160}", 1).await.len(), 3);
}

#[tokio::test]
async fn a_place_of_an_earlier_release_is_the_same_place() {
    let store = fixture::store().await;
    let mut ids = Vec::new();
    for name in ["Äpfel", "ÄPFEL", "äpfel, rot"] {
        ids.push(named(&store, name).await);
    }
    // The result of lower(name) in the locale C.
    let after = Some(ProductPlace { name: "Äpfel".to_owned(), id: ids[0] });
    let name = Some("äpfel".parse().unwrap());
    let page = ProductPage { name, after, limit: 9, ..ProductPage::default() };
    let rest: Vec<_> =
        store.products(&page).await.unwrap().items.into_iter().map(|it| it.id).collect();
    assert_eq!(rest, ids[1..]);
}

#[tokio::test]
async fn programs_of_the_previous_release_have_their_index() {
    let store = fixture::store().await;
    let plan: Vec<String> = {
        let mut connection = store.pool().acquire().await.unwrap();
        sqlx::raw_sql("SET enable_seqscan = off").execute(&mut *connection).await.unwrap();
        let sql = "EXPLAIN SELECT id FROM products WHERE retired_at IS NULL AND lower(name) ~>=~ 'lamp' \
                   ORDER BY lower(name) USING ~<~, id LIMIT 10";
        sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap()
    };
    assert!(plan.iter().any(|line| line.contains("products_by_name")), "{plan:?}");
}

#[tokio::test]
async fn a_database_that_cannot_fold_names_is_refused_before_anything_is_changed() {
    let store = database("ascii", "LOCALE 'C' ENCODING 'SQL_ASCII'").await;
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, MigrateError::Unsuitable(_)), "{error:?}");
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(tables, 0);
    assert!(store.diagnose().await.unwrap().lacking.is_some());
}
