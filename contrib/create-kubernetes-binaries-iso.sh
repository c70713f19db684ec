#!/bin/sh
# Takes the arguments of CloudStack's create-kubernetes-binaries-iso.sh and makes the ISO with cks-iso: no
# root, no container daemon, and everything that was downloaded is in a lock beside the ISO.
# CKS_RELEASE chooses the script of another CloudStack release than the newest, CKS_ISO another cks-iso.
set -eu
cks_iso=${CKS_ISO:-cks-iso}
spec=$(mktemp -d)/spec.toml
trap 'rm -f "$spec"; rmdir "${spec%/*}"' EXIT
iso=$("$cks_iso" from-script ${CKS_RELEASE:+--release "$CKS_RELEASE"} -o "$spec" -- "$@")
"$cks_iso" lock "$spec" --lock "${iso%.iso}.lock"
"$cks_iso" build "$spec" --locked --lock "${iso%.iso}.lock" -o "$iso"
