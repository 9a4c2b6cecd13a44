#!/bin/sh
# requirements-docs.txt from requirements-docs.in: every version pinned, every file hashed, no registry named.
set -eu
cd "$(dirname "$0")/.."
.cache/uv/bin/uv pip compile requirements-docs.in --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --output-file requirements-docs.txt >/dev/null
echo "requirements-docs.txt: $(grep -c '^[a-z]' requirements-docs.txt) packages"
