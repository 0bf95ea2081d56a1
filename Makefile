# Commands for people and CI. `make` alone lists them.

.DEFAULT_GOAL := help
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# `make test-leaks` searches these logs for secrets.
TEST_LOGS := $(TARGET_DIR)/test-logs
# Always test the whole workspace, and select tests by target and by name. If only some packages are selected, cargo
# enables other features of the dependencies and compiles them again.
TESTS := $(CARGO) test --locked --workspace
# Tests wait for servers more than they compute.
export RUST_TEST_THREADS ?= $(shell expr 4 \* $$(nproc))

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The programs report their commit. Tests do not set it, because each new commit would compile the programs again.
run demo build bench chaos: export HOLDFAST_COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# All of these commands build the same packages and start the programs by their paths. Any other selection, as with
# `cargo run`, would compile dependencies again with other features.
RELEASE := $(TARGET_DIR)/release
BINARIES := api worker sandbox bench
BUILD_PROGRAMS = $(CARGO) build --locked --release $(addprefix --package holdfast-,$(BINARIES) chaos) $(addprefix --bin holdfast-,$(BINARIES))
FIRST_BUILD = [ -x $(RELEASE)/holdfast-sandbox ] || \
  echo "Nothing is built yet. The first build compiles some 280 packages: about ten minutes on two cores. Later builds take seconds."

.PHONY: run
run: ## Run everything on this machine until Ctrl-C (PORT=8001: another port, KEEP=1: keep the data, OBSERVE=1: with Prometheus)
	@scripts/install-deps $(if $(OBSERVE),observe)
	@$(FIRST_BUILD)
	@$(BUILD_PROGRAMS)
	@exec $(RELEASE)/holdfast-sandbox run

.PHONY: demo
demo: ## Show a flash sale with 20,000 buyers, 5,000 units, workers and the audit; uses a running `make run`, or starts its own stack
	@scripts/install-deps
	@$(FIRST_BUILD)
	@$(BUILD_PROGRAMS)
	@PROGRAMS=$(RELEASE) scripts/demo

.PHONY: build
build: ## Build the optimised binaries
	@scripts/install-deps
	$(CARGO) build --locked --release --workspace --bins

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Check the formatting, and run clippy without warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: queries
queries: ## Update the descriptions of SQL statements in crates/store/.sqlx
	@scripts/install-deps
	@scripts/queries

.PHONY: deny
deny: ## Check licences, sources and advisories of the dependencies
	@scripts/deny

.PHONY: check
check: ## Run before each commit: formatting, clippy, unit tests and the fast integration tests
	@scripts/stages test-tools lint test-build test-fast

.PHONY: test
test: ## Run before each push: everything that CI checks
	@scripts/stages test-tools 'chart&' lint deny test-build test-all test-leaks test-chaos test-ha-quick test-contract test-swagger test-clients-quick test-kubernetes

.PHONY: test-tools
test-tools:
	@scripts/install-deps observe
	@scripts/install-deps faults
	@scripts/install-deps pgbouncer || echo "NOT TESTED: PgBouncer" >&2

# Compiles everything once; later stages only run it.
.PHONY: test-build
test-build:
	$(TESTS) --all-targets --no-run

# Integration tests in the target `it` are fast, except these modules; those in `slow` are slow.
SLOW := chart_backup:: dropped:: each_filter_has_an_index each_method:: flood:: folded:: hang_ups:: large:: locked_rows:: \
  model:: order_bytes:: outages:: replicated:: run:: runnable:: scenarios:: several_servers:: soak:: standby:: \
  the_largest_orders_are_listed under_load::

.PHONY: test-fast
test-fast:
	$(TESTS) --lib --bins --test it -- $(SLOW:%=--skip %)

.PHONY: test-all
test-all:
	@rm -rf $(TEST_LOGS) && mkdir -p $(TEST_LOGS)
	HOLDFAST_TEST_LOGS=$(TEST_LOGS) $(TESTS)

.PHONY: test-leaks
test-leaks:
	@scripts/leaks $(TEST_LOGS)

.PHONY: test-chaos
test-chaos: test-build ## Inject random faults into an unoptimised build for a minute, and audit it
	@$(TARGET_DIR)/debug/holdfast-chaos run --minutes 1

.PHONY: test-ha-quick
test-ha-quick: ## Test two failovers of a real Patroni under load
	@if scripts/install-deps ha; then exec $(TESTS) --test slow -- --ignored failover::; \
	  elif [ "$$HOLDFAST_HA_TESTS" = required ]; then exit 1; \
	  else echo "NOT TESTED: Patroni" >&2; fi

.PHONY: test-ha
test-ha: test-build ## Test failovers of a real Patroni under load, EACH=10 times for each fault in each mode (WRITE_DOCS=1: write the table)
	@scripts/install-deps ha
	@exec $(TARGET_DIR)/debug/holdfast-chaos failovers --each $(or $(EACH),10) $(if $(WRITE_DOCS),--write docs/reliability.md)

.PHONY: test-contract
test-contract: ## Test the API with generated requests, valid and invalid according to its OpenAPI document
	@program=$$(scripts/schemathesis); case $$? in \
	  0) SCHEMATHESIS=$$program exec $(TESTS) --test it -- --ignored contract:: ;; \
	  3) ;; \
	  *) exit 1 ;; \
	esac

.PHONY: test-swagger
test-swagger: ## Execute each operation in Swagger UI in headless Chromium
	@if scripts/install-deps chromium; then exec $(TESTS) --test it -- --ignored browser::each_operation; \
	  elif [ "$$HOLDFAST_CONTRACT_TESTS" = required ]; then exit 1; \
	  else echo "NOT TESTED: Swagger UI" >&2; fi

# The script prints test names as filters. Without a filter, every test would run.
CLIENTS = lint python typescript postman go java
.PHONY: test-clients
test-clients: ## Lint the OpenAPI documents; generate, compile and use clients; run the Postman collection
	@names=$$(scripts/clients/run install $(CLIENTS)) || exit 1; \
	  [ -z "$$names" ] || exec $(TESTS) --test it -- --ignored $$names

.PHONY: test-clients-quick
test-clients-quick: CLIENTS = lint python typescript postman
test-clients-quick: test-clients

.PHONY: fuzz
fuzz: ## Fuzz each parser of untrusted input (SECONDS_EACH=60)
	@scripts/fuzz

.PHONY: e2e-browser
e2e-browser: ## Test Swagger UI and the console in headless Chromium, and update their screenshots
	@scripts/install-deps chromium
	@axe=$$(scripts/axe-core) && AXE=$$axe exec $(TESTS) --test it -- --ignored browser::

.PHONY: test-kubernetes
test-kubernetes: ## Test the operator on a real Kubernetes control plane
	@scripts/kubernetes-assets && scripts/chart-tools >/dev/null; case $$? in \
	  0) exec $(TESTS) --test it -- --ignored --skip contract:: --skip browser:: --skip clients:: ;; \
	  3) ;; \
	  *) exit 1 ;; \
	esac

.PHONY: chart
chart: ## Test the Helm chart and the files generated from it, the Tiltfile and the workflows
	@scripts/chart-tests
	@scripts/tilt/check
	@scripts/lint-workflows

.PHONY: docs
docs: ## Build all documents as a website, with search
	@scripts/docs

.PHONY: manifests
manifests: ## Generate k8s/ and the chart's README from the chart
	@scripts/manifests

.PHONY: bench
bench: ## Measure everything and audit it (QUICK=1: under three minutes)
	@scripts/install-deps
	@$(FIRST_BUILD)
	@$(BUILD_PROGRAMS)
	@$(RELEASE)/holdfast-bench run $(if $(QUICK),--quick)

.PHONY: chaos
chaos: ## Inject random faults into an optimised build under load, and audit it (MINUTES=10, HANG_UPS=0.3, SEED=… to repeat a run)
	@scripts/install-deps faults
	@scripts/install-deps pgbouncer || echo "NOT TESTED: PgBouncer" >&2
	@$(FIRST_BUILD)
	@$(BUILD_PROGRAMS) --bin holdfast-chaos
	@$(RELEASE)/holdfast-chaos run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(HANG_UPS),--hang-ups $(HANG_UPS))

.PHONY: images
images: ## Build the container images
	@scripts/images

.PHONY: e2e-compose
e2e-compose: ## Run the compose stack, restart each service under load, and audit it
	@scripts/e2e-compose

.PHONY: e2e
e2e: ## Install, load, upgrade and remove Holdfast on the cluster of KUBECONFIG; writes docs/e2e.md
	@scripts/e2e

.PHONY: e2e-keda
e2e-keda: ## Test Holdfast with KEDA on the cluster of KUBECONFIG; writes docs/e2e-keda.md
	@scripts/e2e-keda

.PHONY: e2e-cnpg
e2e-cnpg: ## Test failovers with CloudNativePG on the cluster of KUBECONFIG; writes docs/e2e-cnpg.md
	@scripts/e2e-cnpg
