#!/bin/sh
# bench/peers.txt from bench/peers.in: every version pinned, every file hashed, no registry named.
set -eu
cd "$(dirname "$0")/.."
.cache/uv/bin/uv pip compile bench/peers.in --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --output-file bench/peers.txt >/dev/null
echo "bench/peers.txt: $(grep -c '^[a-z]' bench/peers.txt) packages"
