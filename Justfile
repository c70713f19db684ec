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

# Packages and tarballs of both programs that run on glibc 2.28 and later, into target/packages: packages [x86_64] [aarch64]
[group('build')]
packages *args: build
    packaging/tools deb rpm zig
    packaging/build "$@"

# The same of target/debug, for this machine alone: what tests install
[group('build')]
packages-quick *args: build
    packaging/tools deb rpm
    packaging/build --quick "$@"

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

# Look for inputs that break a parser: fuzz TARGET [SECONDS]; fuzz/README.md
[group('check')]
fuzz target seconds="60": fuzz-setup
    fuzz/run "{{ cache }}" {{ target }} {{ seconds }}

# Each target of `fuzz` for some seconds, one after the other
[group('check')]
fuzz-short seconds="20": fuzz-setup
    fuzz/run "{{ cache }}" all {{ seconds }}

# Run a cks-agent for aarch64 under qemu-user (packages qemu-user-static, mmdebstrap): try-aarch64 [PROGRAM]
[group('check')]
try-aarch64 *args:
    packaging/try-aarch64 "$@"

# Formatting and lints of the fuzz targets, which `lint` does not see
[group('check')]
fuzz-lint:
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo clippy --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

[private]
fuzz-setup:
    cargo install cargo-fuzz --quiet --debug --locked --version 0.13.2 --root '{{ cache }}/cargo-fuzz-0.13.2'

# Kill installations at random moments, so many times as often as `test` does: kill-many [TIMES]
[group('check')]
kill-many times="5": build
    CKS_KILL_TIMES={{ times }} cargo test --package cks-tests --test kill -- --nocapture

# The suites of volumes at full size, as root: machines with decoys, kills, clients that give up: csi-suites [MACHINES] [KILLS]
[group('check')]
csi-suites machines="500" kills="200": build
    CKS_SETUPS={{ machines }} CKS_KILL_TIMES={{ kills }} CKS_DEADLINES=60 cargo test --package cks-tests --test csi -- \
        --nocapture --test-threads=1 wrong_disk crash deadlines

# cks-iso against genisoimage and xorriso on the same tree: bench-iso [--size MB] [--rounds N]
[group('check')]
bench-iso *args:
    cargo build --release --package iso-builder --package cks-tests
    target/release/bench-iso "$@"

# Many nodes at one router over one bounded link: bench-crowd [--nodes N] [--size MB] [--link MBIT]
[group('check')]
bench-crowd *args:
    cargo build --release --package iso-builder --package cks-tests
    target/release/bench-crowd "$@"

# The stock way of installing a node against cks-agent, as root: bench-install [--rounds N] …; docs/performance.md
[group('check')]
bench-install *args:
    cargo build --release --package agent --package iso-builder --package cks-tests
    target/release/bench-install "$@"

# The CSI Node service against plain system calls, as root: bench-csi [--rounds N] [--operations N]; docs/performance.md
[group('check')]
bench-csi *args:
    cargo build --release --package agent --package cks-tests
    target/release/bench-csi "$@"

# Licences, sources and banned crates; not part of `test`: cargo-deny takes 5 minutes to build
[group('check')]
deny:
    cargo install cargo-deny --quiet --locked --version 0.20.2 --root '{{ cache }}/cargo-deny'
    '{{ cache }}/cargo-deny/bin/cargo-deny' check bans licenses sources

# Real clusters: made, joined, broken, left, walked through by the servers (all but 4.20, which lies between its neighbours:
# `just bed-server` has it)
# Real clusters, each way through their lives; `./dev beds` builds what they run
[group('check')]
beds: build
    cargo test --package cks-tests --test etcd --test walks -- --test-threads 6
    cargo run --quiet --package cks-tests --bin bed-kubernetes -- --minor 1.35 --containerd 2.3
    cargo test --package cks-tests --test joining -- --nocapture --test-threads 1
    cargo test --package cks-tests --test server -- --nocapture --test-threads 1 --skip a_server_of_4_20 releases

# Machines that boot, under QEMU, from a sealed template: discs, router, ConfigDrive, power cuts; CKS_POWER_CUTS=10 cuts more often
[group('check')]
bed-vm *args: build
    cargo test --package cks-tests --test vm -- --nocapture --test-threads 2 --include-ignored --skip packer "$@"

# What of it CI has time for: late discs, a reboot, the router, volumes
[group('check')]
bed-vm-short: build
    cargo test --package cks-tests --test vm -- --nocapture --test-threads 2

# One template that packer really makes, under QEMU; not part of `bed-vm`
[group('check')]
bed-packer: build
    cargo test --package cks-tests --test vm -- --nocapture --include-ignored packer

# A cluster of an older minor on containerd 1.6, and one that the server's script upgrades; `./dev upgrade` builds both
[group('check')]
bed-upgrade: build
    cargo run --quiet --package cks-tests --bin bed-kubernetes -- --minor 1.34 --containerd 1.6
    cargo test --package cks-tests --test server -- --nocapture --test-threads 1 upgrade

# Join, break off, leave, fail, pods with volumes, on real clusters: bed-joining [NAME]; CKS_KILL_TIMES=20, CKS_LEAVES=5: more often
[group('check')]
bed-joining *args: build
    cargo test --package cks-tests --test joining -- --nocapture --test-threads 1 "$@"

# The management server's walks of each release, on real clusters that the agent makes: bed-server [NAME]
[group('check')]
bed-server *args: build
    cargo test --package cks-tests --test server -- --nocapture --test-threads 1 "$@"

# An ISO, a virtual router, a containerd, an etcd node and a worker, for real (as root)
[group('try')]
demo *args: build
    cargo run --quiet --package cks-tests --bin demo -- --kubernetes-cache '{{ cache }}/tools' "$@"

# A real cluster from an ISO of ours, in namespaces (as root): bed-kubernetes [--minor 1.34] [--containerd 1.6] [-- CMD]
[group('try')]
bed-kubernetes *args: build
    cargo run --quiet --package cks-tests --bin bed-kubernetes -- "$@"

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

# Run CMD on a machine in namespaces with a login, containerd and what stands in for systemd: machine-bed ISO CMD…
[group('try'), no-cd, no-exit-message]
machine-bed content +command: build
    @{{ bed }} machine "$@"

# Run CMD beside a private containerd: containerd-bed [--version V] CMD…; sets CONTAINERD_ADDRESS
[group('try'), no-cd, no-exit-message]
containerd-bed +command:
    @{{ bed }} containerd "$@"

# Run CMD beside the agent as CSI node plugin, on loop devices: csi-bed [--fs TYPE] [--block] CMD…; sets CSI_ENDPOINT …
[group('try'), no-cd, no-exit-message]
csi-bed +command: build
    @{{ bed }} csi "$@"
