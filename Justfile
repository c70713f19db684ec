# What the project does by hand and in CI. `./dev JOB` makes a machine ready for these first.

set positional-arguments

cache := env("XDG_CACHE_HOME", home_directory() / ".cache") / "cks-node"
bed := "cargo run --quiet --manifest-path '" + justfile_directory() / "Cargo.toml" + "' --package cks-tests --bin bed --"

# List the recipes
default:
    @just --list --unsorted

# Build all programs
[group('build')]
build:
    cargo build --workspace

# Format all code
[group('build')]
fmt:
    cargo fmt --all

# Everything that CI runs (as root)
[group('check')]
test: lint check-pure build
    cargo test --workspace

# Formatting and lints
[group('check')]
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The crate bootstrap decides and does nothing: no runtime, no network, no files, no processes
[group('check')]
check-pure:
    tests/check-pure

# Licences, sources and banned crates; not part of `test`: cargo-deny takes 5 minutes to build
[group('check')]
deny:
    cargo install cargo-deny --quiet --locked --version 0.20.2 --root '{{ cache }}/cargo-deny'
    '{{ cache }}/cargo-deny/bin/cargo-deny' check bans licenses sources

# An ISO, a virtual router, a containerd, an etcd node and a worker, for real (as root)
[group('try')]
demo *args: build
    cargo run --quiet --package cks-tests --bin demo -- --kubernetes-cache '{{ cache }}/tools' "$@"

# Build kubeadm, kubelet and kubectl into the cache; the demo takes them from there
[group('try')]
kubernetes:
    tests/tools/build kubernetes

# Run CMD beside Apache as CloudStack's virtual router, serving a DIR or an ISO; sets VR_URL
[group('try'), no-cd, no-exit-message]
vr-bed content +command:
    @{{ bed }} vr "$@"

# Run CMD where a registry and the sites of Kubernetes 1.33.1 are all there is; sets CKS_ISO_CONFIG
[group('try'), no-cd, no-exit-message]
world-bed +command:
    @{{ bed }} world "$@"

# Run CMD beside a private containerd: containerd-bed [--version V] CMD…; sets CONTAINERD_ADDRESS
[group('try'), no-cd, no-exit-message]
containerd-bed +command:
    @{{ bed }} containerd "$@"
