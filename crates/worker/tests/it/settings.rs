use std::process::Command;

fn refusal(settings: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-worker"))
        .arg("run")
        .env("DATABASE_URL", "postgres://u:hunter2@localhost/db")
        .env("REDIS_URL", "redis://:hunter2@localhost")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[test]
fn a_wrong_setting_prevents_the_start_and_is_named() {
    for (name, value, expected) in [
        (
            "HOLDFAST_LEASE_MS",
            "5",
            "HOLDFAST_LEASE_MS must be a whole number from 100 to 3600000, and is \"5\".",
        ),
        (
            "DATABASE_URL",
            "mysql://u:hunter2@h/db",
            "DATABASE_URL must be the address of a PostgreSQL database, such as \
             postgres://user:password@host:5432/holdfast.",
        ),
        (
            "REDIS_URL",
            "http://:hunter2@h",
            "REDIS_URL must be the address of a Redis server, such as \
             redis://:password@host:6379/0, of Sentinels (redis+sentinel://) or of a cluster \
             (redis+cluster://).",
        ),
    ] {
        assert_eq!(refusal(&[(name, value)]), format!("holdfast-worker: {expected}"));
    }
}

#[test]
fn an_invalid_webhook_url_prevents_the_start() {
    const WEBHOOK: (&str, &str) = ("HOLDFAST_FULFILMENT", "webhook");
    const URL: (&str, &str) = ("HOLDFAST_WEBHOOK_URL", "https://shop.example/orders?token=hunter2");
    const SECRET: (&str, &str) =
        ("HOLDFAST_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    for (settings, expected) in [
        (vec![("HOLDFAST_FULFILMENT", "magic")], "HOLDFAST_FULFILMENT must be one of simulated"),
        (vec![WEBHOOK, SECRET], "HOLDFAST_WEBHOOK_URL must be set"),
        (vec![WEBHOOK, URL], "HOLDFAST_WEBHOOK_SECRET must be set"),
        (
            vec![WEBHOOK, SECRET, ("HOLDFAST_WEBHOOK_URL", "https://u:hunter2@shop.example/")],
            "HOLDFAST_WEBHOOK_URL must be an address",
        ),
        (
            vec![WEBHOOK, SECRET, ("HOLDFAST_WEBHOOK_URL", "http://shop.example/hunter2")],
            "HOLDFAST_WEBHOOK_URL must be https",
        ),
        (
            vec![WEBHOOK, SECRET, ("HOLDFAST_WEBHOOK_URL", "https://169.254.169.254/hunter2")],
            "HOLDFAST_WEBHOOK_URL must not be a private",
        ),
        (
            vec![WEBHOOK, URL, ("HOLDFAST_WEBHOOK_SECRET", "hunter2")],
            "HOLDFAST_WEBHOOK_SECRET must be one to five secrets",
        ),
        (
            vec![WEBHOOK, URL, SECRET, ("HOLDFAST_WEBHOOK_TIMEOUT_MS", "99")],
            "HOLDFAST_WEBHOOK_TIMEOUT_MS must be a whole number from 100",
        ),
        (
            vec![WEBHOOK, URL, SECRET, ("HOLDFAST_WEBHOOK_CONNECTIONS", "0")],
            "HOLDFAST_WEBHOOK_CONNECTIONS must be a whole number from 1",
        ),
        (
            vec![WEBHOOK, URL, SECRET, ("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "perhaps")],
            "HOLDFAST_WEBHOOK_ALLOW_PRIVATE must be",
        ),
    ] {
        let refusal = refusal(&settings);
        let said = refusal.starts_with(&format!("holdfast-worker: {expected}"));
        assert!(said, "{settings:?}: {refusal}");
    }
}

#[test]
fn settings_that_contradict_each_other_prevent_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let ca = ca.to_str().unwrap();
    for (settings, first, second) in [
        (
            &[("HOLDFAST_WEBHOOK_URL", "https://shop.example/hunter2")][..],
            "HOLDFAST_WEBHOOK_URL",
            "HOLDFAST_FULFILMENT=webhook",
        ),
        (
            &[("HOLDFAST_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            "HOLDFAST_WEBHOOK_SECRET",
            "HOLDFAST_FULFILMENT=webhook",
        ),
        (
            &[("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "true")],
            "HOLDFAST_WEBHOOK_ALLOW_PRIVATE",
            "HOLDFAST_FULFILMENT=webhook",
        ),
        (
            &[("HOLDFAST_RETRY_BASE_MS", "101"), ("HOLDFAST_RETRY_MAX_MS", "100")],
            "HOLDFAST_RETRY_BASE_MS",
            "HOLDFAST_RETRY_MAX_MS",
        ),
        (
            &[
                ("HOLDFAST_WEBHOOK_CONNECT_TIMEOUT_MS", "5001"),
                ("HOLDFAST_WEBHOOK_TIMEOUT_MS", "5000"),
            ],
            "HOLDFAST_WEBHOOK_CONNECT_TIMEOUT_MS",
            "HOLDFAST_WEBHOOK_TIMEOUT_MS",
        ),
        (
            &[
                ("HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS", "11"),
                ("HOLDFAST_SHUTDOWN_TIMEOUT_MS", "10"),
            ],
            "HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS",
            "HOLDFAST_SHUTDOWN_TIMEOUT_MS",
        ),
        (&[("HOLDFAST_REDIS_CA_FILE", ca)], "HOLDFAST_REDIS_CA_FILE", "REDIS_URL"),
    ] {
        let refusal = refusal(settings);
        assert!(refusal.contains(first) && refusal.contains(second), "{settings:?}: {refusal}");
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn help_names_each_setting_with_its_variable_and_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-worker"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for text in ["[env: HOLDFAST_LEASE_MS=", "[default: 30000]", "(100 to", "[env: DATABASE_URL"] {
        assert!(help.contains(text), "{text} is not in {help}");
    }
}
