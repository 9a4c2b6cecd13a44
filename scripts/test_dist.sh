#!/bin/sh
# Tests against the wheels in an environment of their own, outside the source tree.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
uv=.cache/uv/bin/uv
there=.cache/wheel-venv
"$uv" venv --quiet --clear --python .venv/bin/python "$there"
"$uv" pip sync --quiet --python "$there/bin/python" --require-hashes requirements.lock
"$uv" pip install --quiet --python "$there/bin/python" --offline --no-deps dist/*.whl
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
cp -r tests "$away/tests"
cp pyproject.toml "$away"
cp -r docs "$away/docs"  # the data dictionary is compared with the lake
cd "$away"
"$root/$there/bin/tailrace" --help >/dev/null
chosen=""
for each in ${DIST_TESTS:-tests/schemas tests/warehouse tests/tailrace/settings/test_model.py}; do
    [ ! -e "$each" ] || chosen="$chosen $each"
done
# -P and no pythonpath: the sources must not stand in front of the wheels
# shellcheck disable=SC2086
"$root/$there/bin/python" -P -m pytest -q -o pythonpath= $chosen
