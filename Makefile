# One entrance: `make demo` shows the main job, `make test` proves it. Both set everything up first.
# Needs Python 3.11 or 3.12, make and git; the first set-up fetches about 3.7 GB, a second one nothing.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
BIN := .venv/bin
UV := .cache/uv/bin/uv
STAMP := .venv/.set-up
JARS := .venv/.jars
SECONDS ?= 600
TESTS ?=
# tests wait more than they compute: two for each of two cores, each file in one process, with a broker of its own;
# tests/order.py has the order. WORKERS=0: one after the other, in this process
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# the Python of this machine and no other, and wheels of 700 MB over slow lines
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 300
export UV_PROJECT_ENVIRONMENT := .venv
# Many build machines and images forbid bytecode. Each process of the tests would compile libraries, and rewrite the
# assertions of all tests, for 20 s of CPU time.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup setup-system check check-format check-lint check-types check-imports check-lock audit lock lock-docs lock-peers test test-extended test-again test-fast demo faults zippy bench dist test-dist docs site clean

help:  ## what there is
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## */  make \1\t/' | expand -t 22

setup: $(STAMP) $(JARS)  ## .venv with the command tailrace; pinned and hashed, a no-op once done

# uv is itself installed by hash, into a folder of its own
$(UV): requirements-uv.txt
	@scripts/python_check.sh "$(PYTHON)"
	rm -rf .cache/uv
	"$(PYTHON)" -m venv .cache/uv
	.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $(UV)

$(STAMP): $(UV) requirements.lock pyproject.toml emitter/pyproject.toml
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$(PYTHON)" .venv
	$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation -e . -e emitter
	@$(BIN)/python scripts/bytecode.py
	@touch $@

# the embedded broker's class path, so that the first start does not wait for it
$(JARS): $(STAMP) tailrace/broker.lock
	$(BIN)/python -m tailrace.broker --fetch
	@touch $@

setup-system:  ## Debian's packages that some tests can use: PostgreSQL, Chromium, Prometheus, Alertmanager, strace
	@scripts/setup_system.sh

check: check-format check-lint check-types check-imports check-lock  ## format, lint, types, import layers, lock

check-format: setup
	$(BIN)/ruff format --check .

check-lint: setup
	$(BIN)/ruff check .

check-types: setup
	$(BIN)/mypy

check-imports: setup
	$(BIN)/lint-imports

check-lock: setup
	@scripts/lock.sh --check

audit: setup  ## known vulnerabilities among the locked packages
	@scripts/audit.sh

lock: $(UV)  ## bring requirements.lock up to date with the two pyproject.toml
	@scripts/lock.sh

lock-docs: $(UV)  ## bring requirements-docs.txt up to date with requirements-docs.in
	@scripts/lock_docs.sh

test: setup  ## what proves the product; TESTS="tests/schemas -k call" for some
	$(PYTEST) -m "not extended and not slow and not faults" $(TESTS)

# further moments of a kill, further forms and sizes; .ci/run runs them after `make test`
test-extended: setup  ## the tests that `make test` leaves out, but slow and faults
	$(PYTEST) -m "extended and not slow and not faults" $(TESTS)

# one after the other: a deadline that was missed beside other tests is held alone, or the test fails again
test-again: setup  ## the tests that failed in the last run
	$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none $(TESTS)

# these compute and do not wait: a process for each core
test-fast: setup  ## the tests that start no server, without the files that take more than 3 s
	$(PYTEST) -n 2 -m "not broker and not extended and not slow and not faults and not long" $(TESTS)

lock-peers: $(UV)  ## bring bench/peers.txt up to date with bench/peers.in
	@scripts/lock_peers.sh

demo: setup  ## the main job on this machine, in under three minutes
	$(BIN)/tailrace demo

# a part of it (TESTS=...) does not rewrite the page
faults: setup  ## the whole fault matrix; writes docs/operate/faults.md
	$(if $(TESTS),,TAILRACE_FAULTS_TABLE=docs/operate/faults.md) $(PYTEST) -m "faults or row" $(TESTS)

zippy: setup  ## random faults against a model; SECONDS=600
	$(BIN)/python tests/faults/zippy.py --seconds $(SECONDS)

bench: setup  ## every benchmark, one after the other
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

bench-%: setup  ## one of them: make bench-throughput
	$(BIN)/python bench/$*.py $(ARGS)

dist: setup  ## both wheels, in dist/
	rm -rf dist
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist .
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist emitter
	@ls -1s dist

# What the wheels leave out, an editable install hides. Packages come from uv's cache: no second download.
test-dist: dist  ## the tests that need no broker, against the built wheels
	@scripts/test_dist.sh

docs: setup  ## what is made from the source: pages of docs/reference, docs/operate/scaling.md, pictures, Grafana dashboards
	$(BIN)/python scripts/settings_page.py
	$(BIN)/python scripts/clients_page.py
	$(BIN)/python scripts/dashboards.py
	$(BIN)/python scripts/scaling_page.py
	$(BIN)/python -m scripts.reference_pages
	$(BIN)/python -m scripts.dictionary_page
	$(BIN)/python -m scripts.pictures

site: $(UV)  ## the documentation as web pages, in site/; a link that leads nowhere fails
	@scripts/site.sh

clean:  ## everything that can be made again; the download caches of the user stay
	rm -rf .venv .cache dist build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
