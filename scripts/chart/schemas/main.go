// Writes the JSON schemas by which kubeconform checks the chart: one file for each minor version of
// Kubernetes with the kinds that the chart makes, and one for each group of custom resources. They
// are taken from the Go modules of their owners and kept in git, so that checking needs no network.
//
//	cd scripts/chart/schemas && go run .
//
// A field that no schema knows is an error in all of them.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// The last patch release of each minor version.
var kubernetes = []string{"1.30.14", "1.31.14", "1.32.13", "1.33.13", "1.34.4", "1.35.4", "1.36.3"}

// The kinds that the chart makes, or its examples.
var kinds = map[string][]string{
	"v1":                           {"ConfigMap", "Namespace", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"},
	"apiextensions.k8s.io/v1":      {"CustomResourceDefinition"},
	"apiregistration.k8s.io/v1":    {"APIService"},
	"apps/v1":                      {"Deployment", "StatefulSet"},
	"autoscaling/v2":               {"HorizontalPodAutoscaler"},
	"batch/v1":                     {"CronJob", "Job"},
	"networking.k8s.io/v1":         {"Ingress", "NetworkPolicy"},
	"policy/v1":                    {"PodDisruptionBudget"},
	"rbac.authorization.k8s.io/v1": {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
	"scheduling.k8s.io/v1":         {"PriorityClass"},
}

// Custom resources: where their definitions lie.
var custom = []struct{ module, files string }{
	{"github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules,servicemonitors}.yaml"},
	{"sigs.k8s.io/gateway-api@v1.4.0", "config/crd/standard/gateway.networking.k8s.io_{httproutes}.yaml"},
}

type object = map[string]any

func main() {
	for _, version := range kubernetes {
		minor := version[:strings.LastIndex(version, ".")]
		write("kubernetes-v"+minor+".0.json", ofKubernetes(version))
	}
	groups := map[string][]object{}
	for _, source := range custom {
		open, end := strings.Index(source.files, "{"), strings.Index(source.files, "}")
		for _, name := range strings.Split(source.files[open+1:end], ",") {
			path := filepath.Join(module(source.module), source.files[:open]+name+source.files[end+1:])
			var crd object
			must(yaml.Unmarshal(read(path), &crd))
			spec := crd["spec"].(object)
			group := spec["group"].(string)
			for _, version := range spec["versions"].([]any) {
				version := version.(object)
				schema := strict(version["schema"].(object)["openAPIV3Schema"]).(object)
				// The API server adds it to each.
				schema["properties"].(object)["metadata"] = object{"type": "object"}
				kind := spec["names"].(object)["kind"].(string)
				groups[group] = append(groups[group], choice(group+"/"+version["name"].(string), kind, schema))
			}
		}
	}
	for group, choices := range groups {
		write("group-"+group+".json", oneOf(choices))
	}
}

func ofKubernetes(version string) object {
	var swagger struct{ Definitions map[string]object }
	path := filepath.Join(module("k8s.io/kubernetes@v"+version), "api/openapi-spec/swagger.json")
	must(json.Unmarshal(read(path), &swagger))
	definitions, choices := object{}, []object{}
	var take func(name string)
	take = func(name string) {
		if definitions[name] != nil {
			return
		}
		definitions[name] = object{} // it may refer to itself
		switch {
		case strings.HasSuffix(name, ".IntOrString"):
			definitions[name] = object{"type": []any{"string", "integer"}}
		case strings.HasSuffix(name, ".Quantity"):
			definitions[name] = object{"type": []any{"string", "number"}}
		default:
			definitions[name] = strict(map[string]any(swagger.Definitions[name]))
		}
		for _, other := range references(swagger.Definitions[name]) {
			take(other)
		}
	}
	for name, definition := range swagger.Definitions {
		itsKinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, kind := range itsKinds {
			kind := kind.(object)
			version := strings.TrimPrefix(kind["group"].(string)+"/"+kind["version"].(string), "/")
			for _, wanted := range kinds[version] {
				if wanted == kind["kind"] {
					take(name)
					choices = append(choices, choice(version, wanted, object{"$ref": "#/definitions/" + name}))
				}
			}
		}
	}
	schema := oneOf(choices)
	schema["definitions"] = definitions
	return schema
}

// Of one kind.
func choice(version, kind string, schema object) object {
	return object{
		"if": object{
			"required":   []any{"apiVersion", "kind"},
			"properties": object{"apiVersion": object{"const": version}, "kind": object{"const": kind}},
		},
		"then": schema,
	}
}

// Exactly one of the kinds, by its schema: so an error speaks of what is wrong, and not of all the kinds that it is not.
func oneOf(choices []object) object {
	slices.SortFunc(choices, func(a, b object) int { return bytes.Compare(encode(a["if"]), encode(b["if"])) })
	known := []any{}
	for _, choice := range choices {
		known = append(known, choice["if"])
	}
	// Without the version kubeconform takes it for draft 4, which has no "if".
	return object{"$schema": "http://json-schema.org/draft-07/schema#", "anyOf": known, "allOf": choices}
}

func references(value any) (names []string) {
	switch value := value.(type) {
	case object:
		for key, inner := range value {
			if name, ok := inner.(string); ok && key == "$ref" {
				names = append(names, strings.TrimPrefix(name, "#/definitions/"))
			} else {
				names = append(names, references(inner)...)
			}
		}
	case []any:
		for _, inner := range value {
			names = append(names, references(inner)...)
		}
	}
	return names
}

// Without descriptions, and without room for fields that it does not name.
func strict(value any) any {
	switch value := value.(type) {
	case object:
		result := object{}
		for key, inner := range value {
			if _, text := inner.(string); text && key == "description" || strings.HasPrefix(key, "x-") || key == "default" {
				continue
			}
			if properties, ok := inner.(object); ok && key == "properties" {
				fields := object{}
				for name, field := range properties {
					fields[name] = strict(field)
				}
				result[key] = fields
				continue
			}
			result[key] = strict(inner)
		}
		if value["x-kubernetes-int-or-string"] == true {
			return object{"type": []any{"string", "integer"}}
		}
		_, properties := result["properties"]
		_, more := result["additionalProperties"]
		if properties && !more && value["type"] == "object" && value["x-kubernetes-preserve-unknown-fields"] != true {
			result["additionalProperties"] = false
		}
		return result
	case []any:
		result := make([]any, len(value))
		for i, inner := range value {
			result[i] = strict(inner)
		}
		return result
	}
	return value
}

// The folder of a module, downloaded if it is not there.
func module(name string) string {
	command := exec.Command("go", "mod", "download", "-json", name)
	command.Stderr = os.Stderr
	output, err := command.Output()
	must(err)
	var answer struct{ Dir string }
	must(json.Unmarshal(output, &answer))
	return answer.Dir
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	must(err)
	return content
}

func encode(value any) []byte {
	content, err := json.Marshal(value)
	must(err)
	return content
}

func write(name string, value any) {
	must(os.WriteFile(name, append(encode(value), '\n'), 0o644))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}
