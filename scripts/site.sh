#!/bin/sh
# The documentation as web pages, in site/. Its tools are in an environment of their own, pinned and hashed.
# Diagrams are drawn in the reader's browser by Mermaid. It is a package of npm: where npm is installed it becomes a file
# of the site, which then loads nothing from elsewhere; without npm the pages load it from the theme's default address.
set -eu
cd "$(dirname "$0")/.."
uv=.cache/uv/bin/uv
tools=.cache/site
mermaid=11.16.1
mermaid_sha256=18327bef70d96fb505fe7287d9f6a7362ebf07ff6576ddfaffb1a06f3e1a2954

if ! cmp -s requirements-docs.txt "$tools/requirements"; then
    rm -rf "$tools/venv"
    "$uv" venv --quiet --python "${PYTHON:-.venv/bin/python}" "$tools/venv" 2>/dev/null || "$uv" venv --quiet "$tools/venv"
    "$uv" pip sync --quiet --python "$tools/venv/bin/python" --require-hashes requirements-docs.txt
    cp requirements-docs.txt "$tools/requirements"
fi

is_whole() { echo "$mermaid_sha256  $tools/mermaid.min.js" | sha256sum --check --status 2>/dev/null; }
if ! is_whole; then
    rm -f "$tools/mermaid.min.js"
    if command -v npm >/dev/null; then
        packed=$(mktemp -d)
        trap 'rm -rf "$packed"' EXIT
        if npm pack --silent "mermaid@$mermaid" --pack-destination "$packed" >/dev/null &&
            tar -xzf "$packed/mermaid-$mermaid.tgz" -C "$packed" package/dist/mermaid.min.js; then
            cp "$packed/package/dist/mermaid.min.js" "$tools/mermaid.min.js"
            is_whole || { echo "site: mermaid $mermaid is not the file that was pinned" >&2; exit 1; }
        fi
    fi
    [ -f "$tools/mermaid.min.js" ] || echo "site: no npm, or no registry: diagrams need a network when they are read" >&2
fi

# not --quiet: mkdocs counts only the warnings that it prints
log=$(mktemp)
if ! NO_MKDOCS_2_WARNING=true "$tools/venv/bin/python" -m mkdocs build --strict >"$log" 2>&1; then
    grep -vE '^INFO' "$log" >&2
    exit 1
fi
echo "site/index.html: $(find site -name '*.html' | wc -l) pages"
