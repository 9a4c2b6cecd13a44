#!/bin/sh
# requirements.lock from the two pyproject.toml: every version pinned, every file hashed, no registry named.
# (uv.lock would name the registry's hosts.) With --check: says whether it is up to date, and changes nothing.
set -eu
cd "$(dirname "$0")/.."
uv=.cache/uv/bin/uv
fresh=$(mktemp)
said=$(mktemp)
trap 'rm -f "$fresh" "$said"' EXIT
[ ! -f requirements.lock ] || cp requirements.lock "$fresh"  # so that pins stay unless they must move

compile() {
    "$uv" pip compile pyproject.toml emitter/pyproject.toml --group dev "$@" \
        --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
        --no-emit-package tailrace-emitter --output-file "$fresh" >/dev/null 2>"$said"
}

if [ "${1:-}" != --check ]; then
    compile "$@" || { cat "$said" >&2; exit 1; }
    cp "$fresh" requirements.lock
    echo "requirements.lock: $(grep -c '^[a-z]' requirements.lock) packages"
    exit 0
fi
if ! compile; then
    if grep -qiE 'failed to fetch|error sending request|could not connect|dns error|timed out' "$said"; then
        echo "lock: not checked, the registry cannot be reached"
        exit 0
    fi
    cat "$said" >&2
    exit 1
fi
if ! diff -u requirements.lock "$fresh" >"$said"; then
    head -40 "$said"
    echo "requirements.lock does not fit pyproject.toml: run make lock" >&2
    exit 1
fi
echo "lock: up to date"
