use std::process::Command;

fn refusal(settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-operator"));
    command.arg("run").env("HOLDFAST_OPERATOR_NAMESPACE", "shop");
    command.env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0");
    command.env("KUBECONFIG", "/nonexistent").env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.envs(settings.iter().copied()).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    text.trim_end().to_owned()
}

#[test]
fn a_wrong_setting_prevents_the_start_and_is_named() {
    let redis = ("REDIS_URL", "redis://:hunter2@h");
    for (settings, expected) in [
        (
            vec![redis, ("HOLDFAST_LEASE_DURATION_MS", "5")],
            "HOLDFAST_LEASE_DURATION_MS must be a whole number from 2000 to 300000, and is \"5\".",
        ),
        (
            vec![redis, ("HOLDFAST_OPERATOR_NAMESPACE", "Shop")],
            "HOLDFAST_OPERATOR_NAMESPACE must be 1 to 63 lower-case letters, digits and -, such as \
             holdfast-operator, and is \"Shop\".",
        ),
        (
            vec![("REDIS_URL", "http://:hunter2@h")],
            "REDIS_URL must be the address of a Redis server, such as redis://:password@host:6379/0, \
             of Sentinels (redis+sentinel://) or of a cluster (redis+cluster://).",
        ),
        (vec![], "REDIS_URL or HOLDFAST_QUEUES_FILE must be set, and not both"),
        (
            vec![redis, ("HOLDFAST_QUEUES_FILE", "/queues.yaml")],
            "REDIS_URL or HOLDFAST_QUEUES_FILE must be set, and not both",
        ),
        (
            vec![
                redis,
                ("HOLDFAST_CERT_VALIDITY_HOURS", "10"),
                ("HOLDFAST_CA_VALIDITY_HOURS", "9"),
            ],
            "HOLDFAST_CERT_VALIDITY_HOURS must not be more than HOLDFAST_CA_VALIDITY_HOURS.",
        ),
    ] {
        assert_eq!(refusal(&settings), format!("holdfast-operator: {expected}"));
    }
}

#[test]
fn without_an_api_server_the_error_says_what_to_do() {
    let text = refusal(&[("REDIS_URL", "redis://h"), ("HOLDFAST_LOG", "error")]);
    assert!(
        text.contains(
            "no API server is configured: run the operator in a cluster, or set KUBECONFIG"
        ),
        "{text}"
    );
}

#[test]
fn help_names_each_setting_with_its_variable_and_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-operator"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for text in ["[env: HOLDFAST_QUEUE_TIMEOUT_MS=", "[default: 1000]", "(10 to", "[env: REDIS_URL"]
    {
        assert!(help.contains(text), "{text} is not in {help}");
    }
}
