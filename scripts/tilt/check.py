"""Runs the Tiltfile with stubs of Tilt's functions, and checks the recorded calls.

The stubs take exactly the parameters in Tilt's API reference (https://docs.tilt.dev/api.html), so a misspelt one fails.
`helm` renders the real chart, which determines the images and workloads.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import starlark
import yaml

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"}
# Images of other projects, which are not built here.
OF_OTHERS = re.compile(r"^(docker\.io/library/(postgres|redis)|prom/prometheus|grafana/grafana|jaegertracing/jaeger):")

# Stubs of the Tilt functions that are used. `_record` records all calls.
PRELUDE = """
_hooks = {}
os = struct(getenv=_getenv, path=struct(basename=_basename))
def allow_k8s_contexts(contexts): _record('contexts', contexts)
def update_settings(max_parallel_updates=3, k8s_upsert_timeout_secs=30, suppress_unused_image_warnings=None): pass
def local_resource(name, cmd='', deps=None, resource_deps=[], ignore=[], labels=[], auto_init=True, env={}, dir='', allow_parallel=False):
    _record('local', {'name': name, 'cmd': cmd, 'deps': deps or [], 'resource_deps': resource_deps, 'labels': labels})
def docker_build(ref, context, build_args={}, dockerfile='Dockerfile', dockerfile_contents='', live_update=[], match_in_env_vars=False, ignore=[], only=[], entrypoint=[], target='', ssh='', network='', secret=[], extra_tag='', container_args=None, cache_from=[], pull=False, platform='', extra_hosts=[]):
    _record('image', {'ref': ref, 'context': context, 'contents': dockerfile_contents, 'only': only})
def helm(paths, name='', namespace='', values=[], set=[], kube_version='', skip_crds=False): return _helm(paths, name, namespace, values, set)
def k8s_yaml(files, allow_duplicates=False): _record('yaml', files)
def decode_yaml_stream(text): return _decode(text)
def encode_yaml(value): return _encode([value])
def encode_yaml_stream(values): return _encode(values)
def read_file(path, default=None): return _read(path)
def listdir(path, recursive=False): return _list(path)
def port_forward(local_port, container_port=None, name=None, link_path=None, host=None): return '%d:%d' % (local_port, container_port or local_port)
def link(url, name=None): return url
def workload_to_resource_function(function): _hooks['name'] = function
def k8s_resource(workload='', new_name='', port_forwards=[], extra_pod_selectors=[], trigger_mode=None, resource_deps=[], objects=[], auto_init=True, pod_readiness='', links=[], labels=[], discovery_strategy=''):
    _record('resource', {'name': workload, 'ports': port_forwards, 'resource_deps': resource_deps, 'labels': labels})
def cmd_button(name, resource=None, argv=None, env=None, dir=None, location=None, icon_name=None, icon_svg=None, text=None, inputs=None, requires_confirmation=False):
    _record('button', {'name': name, 'resource': resource, 'argv': argv, 'text': text})
"""
# Tilt names the workloads at the end of the file.
END = """
[_record('named', [kind, name, _hooks['name'](struct(name=name, kind=kind, namespace='', group=''))]) for kind, name in _workloads()]
"""


def fail(sentence):
    sys.exit(f"Tiltfile: {sentence}")


def check(condition, sentence):
    if not condition:
        fail(sentence)


def objects_of(given):
    """The objects of what `k8s_yaml` was given: YAML, a path, or a list of them."""
    for item in given if isinstance(given, list) else [given]:
        text = item if "\n" in item else Path(item).read_text()
        yield from (found for found in yaml.safe_load_all(text) if found)


def run(source, environment):
    """What a Tiltfile asks for."""
    recorded = {}

    def record(kind, data):
        recorded.setdefault(kind, []).append(data)

    def helm(path, name, namespace, values, sets):
        command = [os.environ["HELM"], "template", name, path, "--namespace", namespace]
        command += [part for value in values for part in ("--values", value)]
        command += [part for value in sets for part in ("--set", value)]
        done = subprocess.run(command, capture_output=True, text=True)
        check(done.returncode == 0, done.stderr)
        return done.stdout

    def workloads():
        found = [it for given in recorded.get("yaml", []) for it in objects_of(given)]
        return [[it["kind"], it["metadata"]["name"]] for it in found if it["kind"] in WORKLOADS]

    module = starlark.Module()
    for name, function in {
        "_record": record,
        "_helm": helm,
        "_workloads": workloads,
        "_getenv": lambda name: environment.get(name),
        "_basename": os.path.basename,
        # Converted through JSON, because YAML may contain dates and Starlark has none.
        "_decode": lambda text: [json.loads(json.dumps(it, default=str)) for it in yaml.safe_load_all(text) if it],
        "_encode": lambda values: yaml.safe_dump_all(values),
        "_read": lambda path: Path(path).read_text(),
        "_list": lambda path: [str(it.resolve()) for it in sorted(Path(path).iterdir())],
    }.items():
        module.add_callable(name, function)
    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    library = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
    # `load` of an extension: its function is one of the stubs.
    loads = re.findall(r"^load\('(ext://\w+)', *(.*)\)$", source, re.M)
    check(loads == [("ext://uibutton", "'cmd_button'")], f"loads {loads}")
    source = re.sub(r"^load\(.*\)$", "", source, flags=re.M)
    starlark.eval(module, starlark.parse("Tiltfile", PRELUDE + source + END, dialect), library)
    return recorded


def main():
    asked = run(Path("Tiltfile").read_text(), {})
    found = [it for given in asked["yaml"] for it in objects_of(given)]
    names = {new for _, _, new in asked["named"]}
    check(len(names) == len(asked["named"]), f"workloads share a name: {asked['named']}")
    local = {it["name"] for it in asked["local"]}

    # Files
    for it in asked["local"]:
        program = it["cmd"].split()[0]
        check(os.access(program, os.X_OK), f"{program} is not a program")
        for path in it["deps"]:
            check(Path(path).exists(), f"{path} does not exist")

    # Images: all images of the chart are built, all built images are used, and each program
    # belongs to a crate
    used = set()
    for it in found:
        used |= set(re.findall(r'"image": "([^"]*)"', json.dumps(it, default=str)))
    ours = {image.rsplit(":", 1)[0] for image in used if not OF_OTHERS.match(image)}
    built = {it["ref"]: it for it in asked["image"]}
    check(set(built) == ours, f"builds {sorted(built)}, but {sorted(ours)} are used")
    compiled = asked["local"][0]["cmd"].split()[1:]
    release = Path("Dockerfile").read_text()
    for ref, it in built.items():
        program = ref.rsplit("/", 1)[1]
        check(program.removeprefix("holdfast-") in compiled, f"{program} is not compiled")
        check((Path("crates") / program.removeprefix("holdfast-") / "src/main.rs").is_file(), f"{program} is not a program")
        check(it["context"] == "target/tilt" and it["only"] == [program], f"{program}: its context is not the compiled program")
        for line in it["contents"].strip().splitlines():
            line = line.replace(f"COPY {program}", f"COPY --from=build /binaries/{program}").replace("FROM gcr.io", "ARG BASE_IMAGE=gcr.io")
            check(line in release, f"{program}: this line is not in the Dockerfile: {line}")

    # Resources, their dependencies and ports
    every = names | local
    for it in asked["resource"]:
        check(it["name"] in names, f"k8s_resource {it['name']!r} is not a workload; there are {sorted(names)}")
        for other in it["resource_deps"]:
            check(other in every, f"{it['name']} waits for {other!r}, which does not exist")
    check({it["name"] for it in asked["resource"]} == names, "some workload has no k8s_resource")
    check(all(it["labels"] for it in asked["resource"] + asked["local"]), "some resource has no label")
    old = {new: (kind, name) for kind, name, new in asked["named"]}
    for it in asked["resource"]:
        kind, name = old[it["name"]]
        pod = next(o for o in found if o["kind"] == kind and o["metadata"]["name"] == name)["spec"].get("template", {})
        containers = pod.get("spec", {}).get("containers", [])
        opened = {port["containerPort"] for c in containers for port in c.get("ports", [])}
        # The admin port listens only within the pod, so it is not a port of the container.
        opened |= {9463} if name == "holdfast-api" else set()
        for forward in it["ports"]:
            check(int(forward.split(":")[1]) in opened, f"{name} has no port {forward}; it has {sorted(opened)}")
    forwarded = [forward.split(":")[0] for it in asked["resource"] for forward in it["ports"]]
    check(len(set(forwarded)) == len(forwarded), f"a port is forwarded twice: {forwarded}")
    check({"8000", "3000", "9090"} <= set(forwarded), "API, Grafana and Prometheus must be reachable")

    # Mounted objects exist, and everything is in its namespace
    maps = {o["metadata"]["name"]: set(o.get("data") or {}) for o in found if o["kind"] == "ConfigMap"}
    for volume in re.findall(r'"configMap": \{"name": "([^"]*)"', json.dumps(found, default=str)):
        check(volume in maps, f"the ConfigMap {volume} is mounted but does not exist")
    check("flash-sale.json" in maps["holdfast-dashboards"], "Grafana's home is not among the dashboards")
    check(maps["holdfast-alerts"] == {"alerts.yaml"}, "the Prometheus rules are missing")
    secrets = {o["metadata"]["name"] for o in found if o["kind"] == "Secret"}
    for secret in re.findall(r'"secretKeyRef": \{[^}]*"name": "([^"]*)"', json.dumps(found, default=str)):
        check(secret in secrets, f"the Secret {secret} does not exist")

    # Buttons
    for it in asked["button"]:
        check(it["resource"] in every, f"the button {it['name']} is for {it['resource']!r}, which does not exist")
        check(re.fullmatch(r"[a-z0-9-]+", it["name"]), f"a button cannot be named {it['name']!r}")
    load = Path("crates/dev/bench/src/main.rs").read_text()
    commands = " ".join(" ".join(it["argv"]) for it in asked["button"])
    for flag in set(re.findall(r"load .*?(?=kubectl|$)", commands)[0].split()):
        if flag.startswith("--"):
            field = flag[2:].replace("-", "_")
            known = re.search(rf"\b{field}: ", load) or flag in {"--locked", "--release", "--quiet", "--package"}
            check(known, f"holdfast-bench load has no {flag}")
    check({it["text"] for it in asked["button"]} >= {"Place 1,000 orders", "Flash sale", "Migrate"}, "a button is missing")

    # Contexts: only local ones, unless another one is named
    laptops = re.compile(r"^(docker-desktop|orbstack|rancher-desktop|minikube|colima|kind-.*|k3d-.*)$")
    check(all(laptops.match(name) for name in asked["contexts"][0]), f"contexts {asked['contexts']}")
    check(len(asked["contexts"]) == 1, "another context is allowed by default")
    other = run(Path("Tiltfile").read_text(), {"TILT_CONTEXT": "mine"})
    check(other["contexts"][1:] == ["mine"], "TILT_CONTEXT has no effect")

    print(f"Tiltfile: {len(names)} workloads, {len(built)} images, {len(asked['button'])} buttons")


main()
