# The two commands are `make dev` and `make test`. Each does its whole set-up.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Debug builds of our own crates, optimised ones of everything else: built once, used by dev and test alike.
BIN := target/debug/roadstead
RELEASE_BIN := target/release/roadstead
# Worlds that `make simulation` runs.
ROADSTEAD_SEEDS ?= 1000
# Seconds that each fuzz target runs in `make check`.
FUZZ_SECONDS ?= 10
# The same inputs for every change, so that a failure is the change's; 0 draws others (for a longer search).
FUZZ_SEED ?= 1
# Heavy tests share two cores and one engine: more threads would only make each of them slower.
TEST_THREADS ?= 3

# Everything at once, so that dependencies are built with one set of features and only once.
BUILD := cargo build --locked --workspace --all-targets

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustup, then its stable toolchain (1.95 or newer)."; exit 1; }
	@command -v cc >/dev/null || { echo "Installing a C compiler ..."; apt-get update -q && apt-get install -qy --no-install-recommends build-essential; }

.PHONY: dev
dev: toolchain ## Run three replicas of a registry on this machine, behind port 5000, and a mirror of them on 5004
	@echo "Building Roadstead (the first time takes some minutes) ..."
	cargo build --locked -p roadstead-server
	@exec $(BIN) dev

.PHONY: test
test: toolchain ## Run all tests, against real S3 servers, real clients and the official conformance suite
	tests/tools/install test
	$(BUILD)
	cargo test --locked --workspace --no-fail-fast -- --test-threads=$(TEST_THREADS)

.PHONY: check
check: toolchain ## Check format, lints, licences, imports, docs; run each fuzz target for a bounded time
	tests/tools/install check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	PATH="$$(tests/tools/install --path):$$PATH" cargo deny --locked check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	shellcheck tests/tools/install tests/tools/docker-engine tests/tools/containerd registry/oci/fuzz/run .ci/run
	registry/oci/fuzz/run $(FUZZ_SECONDS) $(FUZZ_SEED)

.PHONY: conformance
conformance: toolchain ## Run the official suite in every mode: filesystem, S3, redirects, TLS, replicas, one that dies
	tests/tools/install test
	$(BUILD)
	cargo test --locked --workspace --test it -- --include-ignored --test-threads=1 --nocapture conformance

.PHONY: crash
crash: toolchain ## Kill a registry, and replicas of one, 100 times under load and compare with the ledger
	tests/tools/install test
	$(BUILD)
	ROADSTEAD_CRASH_ROUNDS=100 cargo test --locked --workspace --test it -- --include-ignored --test-threads=1 --nocapture crash ledger

.PHONY: clients
clients: toolchain ## Run the tests with real clients, that of a Docker engine with the containerd image store included
	tests/tools/install test clients
	$(BUILD)
	cargo test --locked --workspace --test it -- --include-ignored --test-threads=$(TEST_THREADS) clients

.PHONY: pulls
pulls: toolchain ## Pull 10,000 times at a mirror while links are cut and replicas of home and mirror are killed
	tests/tools/install test
	$(BUILD)
	ROADSTEAD_PULLS=10000 cargo test --locked --workspace --test it -- --test-threads=1 --nocapture no_pull_fails

.PHONY: simulation
simulation: toolchain ## Run so many simulated clusters, each from its seed (ROADSTEAD_SEEDS=...; tests/simulation)
	$(BUILD)
	ROADSTEAD_SEEDS=$(ROADSTEAD_SEEDS) cargo test --locked --workspace --test simulation -- --nocapture every_promise_holds

.PHONY: simulation-regions
simulation-regions: toolchain ## Run so many simulated homes with mirrors; what has held is noted, so it goes on where it ended
	$(BUILD)
	ROADSTEAD_SEEDS=$(ROADSTEAD_SEEDS) ROADSTEAD_HELD=$(CURDIR)/target/seeds-of-regions \
		cargo test --locked --workspace --test simulation -- --nocapture mirrors_are_whole_and_in_order

.PHONY: cluster
cluster: toolchain ## Bring a Kubernetes of three nodes up on this machine, and say how to look around and take it down
	tests/tools/install test cluster
	$(BUILD)
	target/debug/roadstead-cluster up

.PHONY: e2e
e2e: toolchain ## Run the end-to-end suite on a Kubernetes of three nodes (E2E=... runs the tests of that name only)
	tests/tools/install test cluster
	$(BUILD)
	target/debug/roadstead-cluster run -- \
		cargo test --locked --offline --workspace --test e2e -- --ignored --test-threads=1 --nocapture $(E2E)

.PHONY: bench
bench: toolchain ## Measure against other registries on this machine (BENCH_ROWS=... BENCH_ROUNDS=...; tests/bench/README.md)
	tests/tools/install test bench
	cargo build --locked --release -p roadstead-server -p roadstead-bench
	target/release/roadstead-bench

.PHONY: release
release: toolchain ## Build the optimised binary
	cargo build --locked --release -p roadstead-server
	@echo "$(RELEASE_BIN)"
