# `just` lists the recipes.
default:
    @just --list

# Everything that must hold before a commit: format, lints, budgets, spelling, docs, licences.
check: fmt clippy pure layers handlers lines words logs versions spelling docs licences

# The format of all code.
fmt:
    cargo fmt --all --check

# Lints; a warning is a failure.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The library builds alone: features of the other crates must not hold it up.
pure:
    cargo check --package kthena-router --locked

# Each room of the source names only the rooms below it.
layers:
    scripts/check-layers

# Each handler counts its message.
handlers:
    scripts/check-handlers

# No source file over 400 lines.
lines:
    scripts/check-lines 400

# No promise without an issue, no path of one machine.
words:
    scripts/check-words

# Log messages are constant, begin in lower case and have no period.
logs:
    scripts/check-logs

# Every document names the releases that the suites test.
versions:
    scripts/check-versions

# Spelling of code and prose.
spelling:
    typos

# Documentation builds without a warning.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

# Licences, sources and duplicates of dependencies.
licences:
    cargo deny --workspace --all-features check bans licenses sources

# All tests: the README's test command.
test:
    cargo test

# What the scheduler and the queue must win, in virtual time; not a part of `cargo test`, as it needs an optimized build.
proving-ground:
    cargo test --release --locked --package kthena-router-proving-ground

# The format, lints and tests of the test cluster, which is written in Go.
# Compiled as the program is, so that Kubernetes is compiled once.
check-cluster $CGO_ENABLED="0" $GOFLAGS="-trimpath":
    test -z "$(gofmt -l integration/cluster)"
    cd integration/cluster && go vet ./... && go test ./...

# The format and lints of what runs the conformance suites and renders the chart.
check-conformance $CGO_ENABLED="0" $GOFLAGS="-trimpath" $GOTOOLCHAIN="auto":
    test -z "$(gofmt -l integration/conformance integration/helm)"
    go -C integration/conformance vet ./...
    go -C integration/conformance/gateway vet ./...
    go -C integration/helm vet ./...

# The conformance suites; OPTIONS are those of integration/conformance/run.
conformance *OPTIONS:
    integration/conformance/run {{OPTIONS}}

# The tests in a cluster, those whose names contain FILTER: kubectl against a real API server.
integration *FILTER:
    integration/run {{FILTER}}

# What an adversary tries, from outside; OPTIONS are those of integration/adversary/run.
adversary *OPTIONS:
    cargo build --release
    integration/adversary/run {{OPTIONS}}

# The fuzzers of the HTTP crates, so many seconds for each target.
fuzz SECONDS="60":
    integration/fuzz/run --seconds {{SECONDS}}

# Write the CustomResourceDefinitions anew from the types.
crds:
    cargo run -- crds --write-to manifests/crds

# The quickstart.
demo:
    cargo run -- demo

# What the decisions cost.
bench:
    cargo bench --package kthena-router

# What a request costs, beside nginx.
bench-proxy:
    cargo build --profile dist
    cargo build --package kthena-router-actors --example endpoint_picker
    python3 integration/bench/proxy_cost.py

# The instructions that a request costs; BEFORE is an older build to compare with.
bench-instructions BEFORE:
    cargo build --profile dist
    python3 integration/bench/instructions.py --before {{BEFORE}}

# What a router costs that nobody asks anything.
bench-idle:
    cargo build --release --package kthena-router-actors
    python3 integration/bench/idle_cost.py

# The router beside rivals on one fleet, by HTTP; rivals are installed into `target/rivals`.
bench-rivals *OPTIONS:
    cargo build --release --package kthena-router-actors --package kthena-router-proving-ground
    python3 integration/bench/rivals.py {{OPTIONS}}

# Prefill and decode on different engines, by HTTP: the router's pairs and those of rivals.
bench-pairs *OPTIONS:
    cargo build --release --package kthena-router-actors --package kthena-router-proving-ground
    python3 integration/bench/pairs.py {{OPTIONS}}
