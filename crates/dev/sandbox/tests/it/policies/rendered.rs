//! The rendered chart, for each combination of values.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

/// Network policies, even for clusters that do not enforce them, and the ports of URLs in external Secrets.
const POLICIES: &str =
    "networkPolicy.enabled=true,networkPolicy.databasePort=5432,networkPolicy.redisPort=6379";
/// Further options of a release; each is rendered separately.
const MORE: [&str; 4] = [
    "auth.oidc.issuer=https://login.example.com:8443,auth.oidc.audience=shop",
    "worker.fulfilment=webhook,worker.webhook.url=https://hooks.example.com:9443/x,worker.webhook.secret=s",
    "telemetry.otlpEndpoint=http://collector.observability:4318",
    "operator.forSales=true,autoscaling.provider=keda",
];

#[derive(Clone)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub component: String,
    pub labels: BTreeMap<String, String>,
    spec: Value,
}

impl Pod {
    fn of(object: &Value) -> Option<Self> {
        let (metadata, spec) = match object["kind"].as_str()? {
            "Pod" => (&object["metadata"], &object["spec"]),
            "Deployment" | "StatefulSet" | "Job" | "DaemonSet" => {
                let template = &object["spec"]["template"];
                (&template["metadata"], &template["spec"])
            }
            "CronJob" => {
                let template = &object["spec"]["jobTemplate"]["spec"]["template"];
                (&template["metadata"], &template["spec"])
            }
            _ => return None,
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let labels: BTreeMap<_, _> = metadata["labels"]
            .as_object()?
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        Some(Self {
            name: text(&object["metadata"]["name"]),
            namespace: text(&object["metadata"]["namespace"]),
            component: labels.get("app.kubernetes.io/component").cloned().unwrap_or_default(),
            labels,
            spec: spec.clone(),
        })
    }

    fn containers(&self) -> impl Iterator<Item = &Value> {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|kind| self.spec[kind].as_array().into_iter().flatten())
    }

    pub fn ports(&self) -> Vec<(String, u16)> {
        self.containers()
            .flat_map(|container| container["ports"].as_array().into_iter().flatten())
            .map(|port| {
                let number = port["containerPort"].as_u64().unwrap();
                (port["name"].as_str().unwrap().to_owned(), u16::try_from(number).unwrap())
            })
            .collect()
    }

    /// Variables with their values; `None` for a value in a Secret that does not belong to the chart.
    pub fn environment(&self, objects: &Objects) -> Vec<(String, Option<String>)> {
        self.containers()
            .flat_map(|container| container["env"].as_array().into_iter().flatten())
            .map(|variable| {
                let name = variable["name"].as_str().unwrap().to_owned();
                let value = match &variable["valueFrom"]["secretKeyRef"] {
                    Value::Null => variable["value"].as_str().map(ToOwned::to_owned),
                    key => {
                        objects.secret(key["name"].as_str().unwrap(), key["key"].as_str().unwrap())
                    }
                };
                (name, value)
            })
            .collect()
    }

    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.containers()
            .flat_map(|container| container["args"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
    }

    /// Whether it calls the Kubernetes API.
    pub fn has_token(&self) -> bool {
        self.spec["automountServiceAccountToken"] == true
    }
}

/// All objects of the rendered chart.
pub struct Objects(Vec<Value>);

impl Objects {
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub fn pods(&self) -> Vec<Pod> {
        self.0.iter().filter_map(Pod::of).collect()
    }

    fn secret(&self, name: &str, key: &str) -> Option<String> {
        let secret = self.of_kind("Secret").find(|secret| secret["metadata"]["name"] == name)?;
        secret["stringData"][key].as_str().map(ToOwned::to_owned)
    }

    /// The pod behind a Service, and its port.
    pub fn behind(&self, service: &str, port: u16) -> Option<(Pod, u16)> {
        let service = self.of_kind("Service").find(|it| it["metadata"]["name"] == service)?;
        let selector = service["spec"]["selector"].as_object()?;
        let ports = service["spec"]["ports"].as_array()?;
        let port = &ports.iter().find(|it| it["port"] == port)?["targetPort"];
        let pod = self.pods().into_iter().find(|pod| {
            selector.iter().all(|(name, value)| pod.labels.get(name).is_some_and(|it| it == value))
        })?;
        let ports = pod.ports();
        let (_, port) = ports.into_iter().find(|(name, number)| port == name || port == number)?;
        Some((pod, port))
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap()
}

/// Helm, where `scripts/chart-tools` installs it.
fn helm() -> Option<PathBuf> {
    let own = env::current_exe().unwrap();
    // …/target/debug/deps/test
    own.ancestors().skip(1).take(4).map(|at| at.join("tools/chart/helm")).find(|at| at.is_file())
}

fn read(text: &str) -> Objects {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    Objects(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn render(helm: &Path, values: &Path, more: &str) -> Objects {
    let output = Command::new(helm)
        .args(["template", "shop", "charts/holdfast", "--namespace", "orders"])
        .args(["--kube-version", "1.36.0", "--values"])
        .arg(values)
        .args(["--set", POLICIES, "--set", more])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}, {more}: {output:?}", values.display());
    read(&String::from_utf8(output.stdout).unwrap())
}

/// Each combination of values by name. `k8s/base` is the first.
pub fn renderings() -> &'static [(String, Objects)] {
    static ALL: LazyLock<Vec<(String, Objects)>> = LazyLock::new(render_all);
    &ALL
}

fn render_all() -> Vec<(String, Objects)> {
    let base = fs::read_to_string(root().join("k8s/base/holdfast.yaml")).unwrap();
    let mut all = vec![("k8s/base".to_owned(), read(&base))];
    let Some(helm) = helm() else {
        let required = env::var("HOLDFAST_CHART_TESTS").is_ok_and(|it| it == "required");
        assert!(!required, "there is no helm; type: scripts/chart-tools");
        eprintln!("NOT CHECKED: the policies of other values, because helm is missing");
        return all;
    };
    for entry in fs::read_dir(root().join("charts/holdfast/ci")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        all.push((name.clone(), render(&helm, &path, "")));
        if name == "trial-values.yaml" || name == "production-values.yaml" {
            for more in MORE {
                all.push((format!("{name}, {more}"), render(&helm, &path, more)));
            }
        }
    }
    all
}
