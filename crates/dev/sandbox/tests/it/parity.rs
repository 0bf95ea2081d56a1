//! compose, the Dockerfile and the rendered chart use the same images, ports, health checks and settings.
//! (`scripts/tilt/check` compares the Tiltfile with the chart, and [`super::settings`] checks the names of settings.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&text("docker-compose.yml")).unwrap()
}

/// The containers of the rendered chart, by the name of their image without registry and tag.
fn containers() -> Vec<(String, Value)> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text("k8s/base/holdfast.yaml")).unwrap();
    objects
        .iter()
        .flat_map(|object| object.pointer("/spec/template/spec/containers").into_iter())
        .flat_map(|containers| containers.as_array().unwrap().clone())
        .map(|container| (container["image"].as_str().unwrap().to_owned(), container))
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// The stages of the Dockerfile that become images: name, ports, health check.
fn stages() -> BTreeMap<String, (BTreeSet<u64>, Option<String>)> {
    let mut stages: BTreeMap<String, (BTreeSet<u64>, Option<String>)> = BTreeMap::new();
    let mut stage = String::new();
    for line in text("Dockerfile").lines() {
        if let Some(from) = line.strip_prefix("FROM base AS ") {
            from.clone_into(&mut stage);
            stages.entry(stage.clone()).or_default();
        } else if let Some(ports) = line.strip_prefix("EXPOSE ") {
            let ports = ports.split(' ').map(|port| port.parse::<u64>().unwrap());
            stages.get_mut(&stage).unwrap().0.extend(ports);
        } else if line.starts_with("HEALTHCHECK") {
            let (_, command) = line.split_once("CMD ").unwrap();
            let command: Value = serde_json::from_str(command).unwrap();
            stages.get_mut(&stage).unwrap().1 = Some(strings(&command).join(" "));
        }
    }
    stages
}

/// The last part of an image's name, without its tag.
fn program(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap();
    name.split(':').next().unwrap().trim_start_matches("holdfast-").to_owned()
}

#[test]
fn the_same_images_are_built_and_run() {
    let stages = stages();
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut run = BTreeSet::new();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        if image.starts_with("holdfast-") {
            let program = program(image);
            assert_eq!(
                service["build"]["target"],
                program.as_str(),
                "{name} has another build context"
            );
            assert!(stages.contains_key(&program), "{name}: there is no target {program}");
            assert!(
                image.ends_with(":${TAG:-dev}"),
                "{name}: scripts/images uses another tag: {image}"
            );
            run.insert(program);
        }
    }
    let containers = containers();
    for (image, _) in containers.iter().filter(|(image, _)| image.contains("holdfast-")) {
        assert!(stages.contains_key(&program(image)), "there is no target for {image}");
        run.insert(program(image));
    }
    assert_eq!(run, stages.keys().cloned().collect(), "a target is built and never run");
    let built = text("scripts/images");
    for stage in stages.keys() {
        assert!(built.contains(&format!("{stage} ")), "scripts/images does not build {stage}");
    }
    // The other servers have the same version.
    for server in ["postgres", "redis"] {
        let theirs = format!("docker.io/library/{}", services[server]["image"].as_str().unwrap());
        assert!(containers.iter().any(|(image, _)| *image == theirs), "the chart has no {theirs}");
    }
}

/// The image of the dependencies is built with `--locked` from the manifests alone; without one of them, the lock file would change.
#[test]
fn the_images_are_built_from_the_manifests_of_all_crates() {
    let folder = tempfile::tempdir().unwrap();
    let dockerfile = text("Dockerfile");
    let copied = dockerfile.lines().take_while(|line| !line.starts_with("RUN for crate"));
    let copied =
        copied.filter_map(|line| line.strip_prefix("COPY ")).flat_map(str::split_whitespace);
    for path in copied.filter(|path| path.starts_with("Cargo.") || path.ends_with("Cargo.toml")) {
        let copy = folder.path().join(path);
        let its_folder = copy.parent().unwrap();
        fs::create_dir_all(its_folder.join("src")).unwrap();
        fs::copy(root().join(path), &copy).unwrap();
        for source in ["src/main.rs", "src/lib.rs"] {
            fs::write(its_folder.join(source), "").unwrap();
        }
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version=1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn ports_are_the_same_everywhere() {
    let stages = stages();
    let settings = text("docs/settings.md");
    let default = |variable: &str| {
        let row = settings.lines().find(|line| line.starts_with(&format!("| `{variable}` |")));
        let cells: Vec<_> = row.unwrap().split('|').map(str::trim).collect();
        // An address without a fixed default is described in the help.
        let in_help = || cells[4].split([' ', ',', ';']).find(|word| word.starts_with("0.0.0.0:"));
        let address = if cells[3].contains(':') { cells[3] } else { in_help().unwrap() };
        let address = address.trim_matches('`');
        address.rsplit(':').next().unwrap().parse::<u64>().unwrap()
    };
    for (image, container) in containers() {
        let Some((exposed, _)) = stages.get(&program(&image)) else { continue };
        let ports = container["ports"].as_array().into_iter().flatten();
        let ports: BTreeSet<u64> = ports.map(|it| it["containerPort"].as_u64().unwrap()).collect();
        // The migration's container uses the image of the API and opens no port.
        assert!(ports.is_empty() || ports == *exposed, "{image}: {ports:?}, not {exposed:?}");
    }
    let compose = compose();
    let api = &compose["services"]["api"];
    for (variable, port) in [
        ("HOLDFAST_HTTP_ADDR", 8000),
        ("HOLDFAST_METRICS_ADDR", 9464),
        ("HOLDFAST_ADMIN_ADDR", 9463),
    ] {
        assert_eq!(default(variable), port, "{variable}");
        let address = api["environment"][variable].as_str().unwrap();
        assert!(address.ends_with(&format!(":{port}")), "{variable} in compose: {address}");
    }
    assert!(stages["api"].0.contains(&default("HOLDFAST_HTTP_ADDR")));
    assert!(stages["operator"].0.contains(&default("HOLDFAST_EXTERNAL_METRICS_ADDR")));
    assert!(stages.values().take(3).all(|(ports, _)| ports.is_empty() || ports.contains(&9464)));
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to others");
        }
    }
    // Prometheus scrapes the ports of the metrics.
    let scraped = compose["configs"]["prometheus"]["content"].as_str().unwrap();
    assert_eq!(scraped.matches("port: 9464").count(), 2, "{scraped}");
}

#[test]
fn health_checks_are_the_same() {
    let health =
        [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")];
    let mut probed = 0;
    for (image, container) in containers() {
        if !image.contains("holdfast-") || container["ports"].is_null() {
            continue;
        }
        for (probe, path) in health {
            let asked = &container[probe]["httpGet"];
            assert_eq!(
                (&asked["path"], &asked["port"]),
                (&path.into(), &"metrics".into()),
                "{image}"
            );
            probed += 1;
        }
    }
    assert_eq!(probed, 9);
    // Both the internal port and the API's port answer these.
    let internal = text("crates/telemetry/src/internal.rs");
    for (_, path) in health {
        assert!(internal.contains(&format!("\"{path}\"")), "nobody answers {path}");
    }
    let compose = compose();
    for (stage, (_, check)) in stages() {
        let Some(check) = check else { continue };
        assert_eq!(check, format!("/holdfast-{stage} healthcheck"));
        let service = &compose["services"][stage.as_str()];
        if !service.is_null() {
            let test = strings(&service["healthcheck"]["test"]).join(" ");
            assert_eq!(test, format!("CMD {check} --ready"), "{stage} in compose");
        }
    }
}

#[test]
fn compose_and_the_chart_set_the_same_things() {
    let names =
        |environment: Vec<String>| -> BTreeSet<String> { environment.into_iter().collect() };
    let compose = compose();
    let of_compose = |service: &str| {
        let environment = compose["services"][service]["environment"].as_object().unwrap();
        names(environment.keys().cloned().collect())
    };
    let of_chart = |program_wanted: &str, command: &str| {
        let container = containers().into_iter().find(|(image, container)| {
            program(image) == program_wanted && container["args"][0] == command
        });
        let (_, container) = container.unwrap();
        let environment = container["env"].as_array().unwrap();
        names(environment.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect())
    };
    // If compose and the chart run the same program, they must set the same variables, except these.
    let compose_only: &[&str] = &[
        // Only for a development machine: no API keys, open ports, a Jaeger.
        "HOLDFAST_AUTH",
        "HOLDFAST_OPEN_TO_NETWORK",
        "HOLDFAST_ALLOWED_HOSTS",
        "HOLDFAST_ADMIN_ADDR",
        "HOLDFAST_HTTP_ADDR",
        "HOLDFAST_METRICS_ADDR",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
    ];
    for (service, program, command) in
        [("api", "api", "serve"), ("worker", "worker", "run"), ("migrate", "api", "migrate")]
    {
        let (ours, chart) = (of_compose(service), of_chart(program, command));
        for name in ours.difference(&chart) {
            assert!(
                compose_only.contains(&name.as_str()),
                "{service}: the chart does not set {name}"
            );
        }
        assert!(chart.contains("DATABASE_URL") && ours.contains("DATABASE_URL"));
    }
}
