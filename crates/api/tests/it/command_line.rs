//! The commands of `holdfast-api` for operators: their effects, output and exit codes.

mod doctor;

use std::process::{Command, Output};

use holdfast_sandbox::{Port, shared_postgres};
use serde_json::{Value, json};

use crate::{
    dead_letters::{failed, last_step, stock},
    server::{BINARY, Server},
};

/// The exit codes in `--help`.
const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const PARTLY: Option<i32> = Some(3);
const UNREACHABLE: Option<i32> = Some(4);

struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.error))
    }
}

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    let Output { status, stdout, stderr } = Command::new(BINARY)
        .args(arguments)
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), out: text(stdout), error: text(stderr) }
}

fn on(server: &Server, arguments: &[&str]) -> Said {
    let redis = server.redis.url();
    run(&[("DATABASE_URL", &server.database_url), ("REDIS_URL", &redis)], arguments)
}

fn dead_letters(server: &Server, arguments: &[&str]) -> Said {
    on(server, &[&["dead-letters"], arguments].concat())
}

const BY: [&str; 4] = ["--by", "ada", "--note", "refunded"];

#[tokio::test]
async fn dead_letters_are_listed_as_a_table_json_yaml_and_names() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(10).await, server.product(10).await);
    let of_lamp = failed(&server, lamp, 3).await;
    let of_mill = failed(&server, mill, 2).await;
    let all: Vec<i64> = of_lamp.iter().chain(&of_mill).rev().copied().collect();

    let table = dead_letters(&server, &["list"]).out;
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("ORDER  PRODUCTS"), "{table}");
    let first: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(first[..4], [&all[0].to_string(), "1", "×", &format!("#{mill}")], "{table}");
    assert!(!table.contains('\u{1b}'), "no colours where there is no terminal");
    let json = dead_letters(&server, &["list", "-o", "json"]).json();
    let ids: Vec<i64> =
        json.as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, all);
    let yaml = dead_letters(&server, &["list", "-o", "yaml"]).out;
    assert_eq!(yaml.matches("- id: ").count(), 5, "{yaml}");
    let names = dead_letters(&server, &["list", "-o", "name", "--product-id", &mill.to_string()]);
    assert_eq!(names.out, format!("{}\n{}\n", of_mill[1], of_mill[0]));

    let shown = dead_letters(&server, &["show", &of_lamp[0].to_string()]);
    assert!(shown.out.starts_with("Order "), "{}", shown.out);
    assert!(shown.out.contains("no such street") && shown.out.contains("AT "), "{}", shown.out);
    let shown = dead_letters(&server, &["show", "-o", "json", &of_lamp[0].to_string()]).json();
    assert_eq!(shown["failure"], "no such street");
    let none = dead_letters(&server, &["list", "--failed-since", "2030-01-01T00:00:00Z"]);
    assert_eq!((none.code, none.out.as_str()), (DONE, ""));
}

#[tokio::test]
async fn a_list_ends_at_its_limit_and_continues_with_its_cursor() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let orders = failed(&server, lamp, 5).await;
    let keys: Vec<String> = (0..3)
        .map(|_| on(&server, &["keys", "create", "--name", "x", "--scopes", "admin"]).out)
        .collect();
    for (list, all) in [("dead-letters", orders.len()), ("keys", keys.len())] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut arguments = vec![list, "list", "-o", "name", "--limit", "2"];
            if let Some(cursor) = &cursor {
                arguments.extend(["--cursor", cursor]);
            }
            let page = on(&server, &arguments);
            assert_eq!(page.code, DONE, "{}", page.error);
            seen.extend(page.out.lines().map(str::to_owned));
            let next = page.error.split_once("--cursor ");
            let Some((_, next)) = next else { break };
            cursor = next.split_whitespace().next().map(str::to_owned);
        }
        let whole = on(&server, &[list, "list", "-o", "name", "--all"]).out;
        assert_eq!(seen, whole.lines().collect::<Vec<_>>(), "{list}");
        assert_eq!(seen.len(), all, "{list}");
    }
}

#[tokio::test]
async fn a_bulk_command_continues_after_a_failure_and_reports_each() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let orders = failed(&server, lamp, 4).await;
    let ids: Vec<String> = orders.iter().map(ToString::to_string).collect();
    let discard =
        |ids: &[&str]| dead_letters(&server, &[&["discard", "-o", "json"], &BY[..], ids].concat());
    let some = discard(&["999999", &ids[0], "888888", &ids[1]]);
    assert_eq!(some.code, PARTLY);
    let results: Vec<_> = some
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].clone(), it["result"].clone()))
        .collect();
    let expected = [
        (json!(999_999), json!("refused")),
        (json!(orders[0]), json!("discarded")),
        (json!(888_888), json!("refused")),
        (json!(orders[1]), json!("discarded")),
    ];
    assert_eq!(results, expected);
    // The server's cache learns about the returned units.
    server.until("the units are in stock", async || stock(&server, lamp).await == 8).await;
    let table = dead_letters(&server, &[&["discard"], &BY[..], &["999999", &ids[0]]].concat());
    assert_eq!(table.code, FAILED);
    let at: Vec<_> = table
        .out
        .lines()
        .map(|line| line.find("RESULT").or(line.find("refused")).unwrap())
        .collect();
    assert_eq!(at, [8, 8, 8], "{}", table.out);
    let table = dead_letters(&server, &[&["discard"], &BY[..], &["9999", &ids[0]]].concat());
    let at: Vec<_> = table
        .out
        .lines()
        .map(|line| line.find("RESULT").or(line.find("refused")).unwrap())
        .collect();
    assert_eq!(at, [7, 7, 7], "{}", table.out);
    assert_eq!(discard(&[&ids[2]]).code, DONE);

    let replay =
        dead_letters(&server, &[&["replay"], &BY[..], &[&ids[0], &ids[3], "7777"]].concat());
    assert_eq!(replay.code, PARTLY, "{}", replay.error);
    for row in ["cancelled", "replayed", "the order does not exist"] {
        assert!(replay.out.contains(row), "{}", replay.out);
    }
    let order = server.api.get(&format!("/orders/{}", ids[3])).await;
    let again = dead_letters(&server, &[&["discard"], &BY[..], &[&ids[0]]].concat());
    assert!(!again.out.contains('…'), "a reason is never cut: {}", again.out);
    let step = last_step(&order);
    assert_eq!((&step["by"], &step["detail"]), (&json!("ada"), &json!("refunded")), "{step}");

    let made = on(&server, &["keys", "create", "--name", "till", "--scopes", "admin"]).out;
    let id = made.split('_').nth(1).unwrap();
    let revoked = on(&server, &["keys", "revoke", "x", id, "y"]);
    assert_eq!(revoked.code, PARTLY);
    assert_eq!(revoked.out.matches("the key does not exist").count(), 2, "{}", revoked.out);
    assert!(revoked.out.contains("revoked"), "{}", revoked.out);
}

#[tokio::test]
async fn dead_letters_are_replayed_by_a_filter() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(10).await, server.product(10).await);
    let of_lamp = failed(&server, lamp, 1).await;
    let of_mill = failed(&server, mill, 2).await;
    let filter = ["replay", "-o", "name", "--product-id", &mill.to_string()].map(str::to_owned);
    let filter: Vec<&str> = filter.iter().map(String::as_str).chain(BY).collect();
    let replayed = dead_letters(&server, &filter);
    assert_eq!(replayed.code, DONE, "{}", replayed.error);
    assert_eq!(replayed.out, format!("{}\n{}\n", of_mill[0], of_mill[1]));
    let left = dead_letters(&server, &["list", "-o", "name"]).out;
    assert_eq!(left, format!("{}\n", of_lamp[0]));
}

#[tokio::test]
async fn a_wrong_command_line_is_a_usage_error_and_changes_nothing() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let order = failed(&server, lamp, 1).await[0].to_string();
    for (arguments, sentence) in [
        (&["replay", "--by", "ada"][..], "--all"),
        (&["replay", "--by", "ada", "seven"], "<ID> must be a whole number"),
        (&["show", "seven"], "<ID> must be a whole number"),
        (&["replay", "--by", "ada", "--all", "7"], "cannot be used with"),
        (&["discard", &order], "--by"),
        (&["discard", "--by", "", &order], "by must"),
        (&["list", "--failed-since", "yesterday"], "must be a time"),
        (&["list", "--limit", "0"], "from 1 to 1000000"),
        (&["list", "-o", "xml"], "must be one of table, json, yaml, name"),
        (&["list", "--nonsense"], "--nonsense"),
        (&["list", "--cursor", "bWFkZSB1cA"], "cursor"),
    ] {
        let refused = dead_letters(&server, arguments);
        assert_eq!(refused.code, USAGE, "{arguments:?}: {}", refused.error);
        assert!(refused.error.contains(sentence), "{arguments:?}: {}", refused.error);
    }
    let urls = ["--database-url=postgres://h/d", "--redis-url=redis://h"];
    let together = ["--lock-timeout-ms=50", "--statement-timeout-ms=50"];
    let refused = run(&[], &[&["serve"], &urls[..], &together].concat());
    assert_eq!(refused.code, USAGE, "{}", refused.error);
    let refused = on(&server, &["archive", "--older-than-days", "9", "--to", "/no/such/folder"]);
    assert_eq!(refused.code, USAGE, "{}", refused.error);
    assert_eq!(dead_letters(&server, &["show", "999999"]).code, FAILED);
    assert_eq!(dead_letters(&server, &["list", "-o", "name"]).out, format!("{order}\n"));
}

#[tokio::test]
async fn a_cursor_that_the_list_did_not_give_out_is_a_usage_error() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    failed(&server, lamp, 2).await;
    let key = on(&server, &["keys", "create", "--name", "x", "--scopes", "admin"]).out;
    on(&server, &["keys", "create", "--name", "y", "--scopes", "admin"]);
    let id = key.split('_').nth(1).unwrap().to_owned();
    let next = |list| {
        let page = on(&server, &[list, "list", "--limit", "1"]).error;
        page.split_once("--cursor ").unwrap().1.split_whitespace().next().unwrap().to_owned()
    };
    let (of_letters, of_keys) = (next("dead-letters"), next("keys"));
    for (list, own, other) in
        [("dead-letters", &of_letters, &of_keys), ("keys", &of_keys, &of_letters)]
    {
        for cursor in ["AAAA", "bWFkZSB1cA", "", &id, other, &own[1..]] {
            let refused = on(&server, &[list, "list", "--cursor", cursor]);
            assert_eq!(refused.code, USAGE, "{list} {cursor:?}: {}", refused.out);
            assert!(refused.error.contains("cursor"), "{list} {cursor:?}: {}", refused.error);
        }
        assert_eq!(on(&server, &[list, "list", "--cursor", own]).code, DONE, "{list}");
    }
}

#[test]
fn bash_completes_subcommands_flags_and_values() {
    for (words, expected) in [
        (&["dead-let"][..], "dead-letters"),
        (&["dead-letters", ""], "list show replay discard"),
        (&["keys", "create", "--sc"], "--scopes"),
        (&["keys", "list", "-o", ""], "table json yaml name"),
    ] {
        let (word, before) = words.split_last().unwrap();
        let script = format!(
            "source <(\"$0\" completion bash); COMP_WORDS=(holdfast-api {} '{word}'); COMP_CWORD={}; \
             _holdfast__api holdfast-api '{word}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            before.join(" "),
            words.len(),
            before.last().unwrap_or(&"holdfast-api"),
        );
        let mut bash = std::process::Command::new("bash");
        let bash = bash.args(["-c", &script, env!("CARGO_BIN_EXE_holdfast-api")]).output().unwrap();
        let said = String::from_utf8_lossy(&bash.stdout);
        assert!(said.contains(expected), "{words:?}: {bash:?}");
    }
}

#[test]
fn a_reader_that_has_enough_is_not_an_error() {
    for arguments in [&["openapi"][..], &["settings"], &["completion", "bash"], &["metrics"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast-api"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.args(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn an_error_names_the_server_and_the_cause_once() {
    let free = Port::lease().unwrap();
    let away = format!("postgres://me:hunter2@{}/shop", free.address());
    let postgres = shared_postgres().await.unwrap();
    let missing = postgres.database_url("no_such_database");
    for (url, code, place, cause) in [
        (&away, UNREACHABLE, free.address().to_string(), "Connection refused"),
        (&missing, FAILED, format!(":{}", postgres.port()), "\"no_such_database\" does not exist"),
    ] {
        for arguments in [&["keys", "list"][..], &["dead-letters", "list"], &["migrate"]] {
            let environment = [("DATABASE_URL", url.as_str()), ("REDIS_URL", "redis://h")];
            let said = run(&environment, arguments);
            assert_eq!(said.code, code, "{arguments:?}: {}", said.error);
            let error = said.error;
            assert!(error.contains(&place), "{arguments:?}: {error}");
            assert_eq!(error.matches(cause).count(), 1, "{arguments:?}: {error}");
            assert!(!error.contains("database: error"), "{arguments:?}: {error}");
            assert!(!error.contains("error communicating"), "{arguments:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("at line"), "{error}");
        }
    }
}

#[test]
fn each_shell_gets_its_completion() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = run(&[], &["completion", shell]);
        assert_eq!(script.code, DONE);
        assert!(script.out.contains(mark) && script.out.contains("dead-letters"), "{shell}");
    }
}

#[test]
fn help_says_what_a_command_does_before_how_it_reaches_the_servers() {
    for command in [&["keys", "create"][..], &["dead-letters", "discard"], &["archive"]] {
        let help = run(&[], &[command, &["--help"]].concat()).out;
        let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text}: {help}"));
        assert!(at("\nOptions:") < at("\nPostgreSQL:"), "{help}");
    }
    for command in [
        &["serve"][..],
        &["migrate"],
        &["doctor"],
        &["keys", "list"],
        &["dead-letters", "list"],
        &["archive"],
    ] {
        let help = run(&[], &[command, &["--help"]].concat()).out;
        let mut headings =
            help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' '));
        assert_eq!(headings.next_back(), Some("Connections to PostgreSQL:"), "{help}");
        let (common, rare) = help.split_once("Connections to PostgreSQL:").unwrap();
        assert!(common.contains("--database-url") && !common.contains("--db-pool-size"), "{help}");
        assert!(rare.contains("--db-pool-size") && rare.contains("--lock-timeout-ms"), "{help}");
    }
    let help = run(&[], &["--help"]).out;
    assert!(help.contains("Exit codes: 0 done; 1 failed; 2"), "{help}");
}
