# Two commands for a newcomer: `make demo` and `make test`. Each target makes its own virtual environment if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests at once. On two cores a third one gains nothing.
WORKERS ?= 2

# Python and pytest keep what they have compiled: to read the tests anew at each start takes longer than to run most of them.
export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo vision test test-user reached test-fast lint scan bench mutants package image test-image test-deploy lock clean

$(VENV)/.installed: pyproject.toml requirements.lock requirements-scenarios.lock
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Headway needs Python 3.11 or newer; set PYTHON=/path/to/it')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-scenarios.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-test.lock
	touch $@

$(VENV)/.installed-vision: $(VENV)/.installed requirements-vision.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-vision.lock
	touch $@

# The command .venv/bin/headway.
install: $(VENV)/.installed

# Cameras: `headway watch`, `headway camera`, and the cameras of `headway serve`.
vision: $(VENV)/.installed-vision

demo: $(VENV)/.installed
	$(BIN)/headway demo $(ARGS)

# What we are compared with, in an environment of its own: its pyarrow and SUMO do not go together in one process.
$(VENV)-peers/.installed: requirements-peers.lock
	test -x $(VENV)-peers/bin/python || $(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --require-hashes -r requirements-peers.lock
	touch $@

# A test that failed beside others may only have found the machine too busy: it has to pass alone, and is listed.
ONCE_MORE = --last-failed --last-failed-no-failures=none --verbose --maxfail=5
AGAIN = echo "FAILED beside other tests; once more, one at a time:" &&

test: $(VENV)/.installed-test $(VENV)-peers/.installed
	rm -rf .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS) || { test $$? = 1 && $(AGAIN) $(BIN)/python -m pytest $(ONCE_MORE); }

# What depends on who runs it: an embedded PostgreSQL, the files' rights, the page on its own HOME.
OF_THE_USER = tests/store tests/test_tree.py tests/web/test_page.py::test_two_streets_are_seen_moving_and_compared

test-user: $(VENV)/.installed-test
	rm -rf .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(OF_THE_USER) || { test $$? = 1 && $(AGAIN) $(BIN)/python -m pytest $(ONCE_MORE) $(OF_THE_USER); }

# The same tests, measured, which takes half as long again: the branches that they ran, and routes and commands that none calls.
MEASURED = COVERAGE_FILE=$(CURDIR)/build/tests.coverage $(BIN)/python -m pytest --cov=src/headway --cov-context=test --cov-report=

reached: $(VENV)/.installed-test $(VENV)-peers/.installed
	mkdir -p build && rm -rf build/tests.coverage* .pytest_cache/v/cache/lastfailed
	$(MEASURED) -n $(WORKERS) --dist loadgroup -p bench.mutants.times --times=build/tests.json $(ARGS) || { test $$? = 1 && $(AGAIN) $(MEASURED) --cov-append $(ONCE_MORE); }
	$(BIN)/python -m bench.reached

# Under a minute: without the page, the database, and what takes seconds.
test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not browser and not database" $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint deploy
	$(BIN)/hadolint deploy/image/Containerfile
	$(BIN)/shellcheck deploy/image/build deploy/image/entrypoint deploy/compose/make-secrets deploy/compose/postgres/init.sh deploy/compose/postgres/archive-wal
	$(BIN)/compose-lint --quiet --skip-suppressed --fail-on medium deploy/compose/compose.yaml

# Known holes in what is pinned, and secrets in the tree; `make lint` has the rules of bandit.
$(VENV)-scan/.installed: requirements-scan.lock
	test -x $(VENV)-scan/bin/python || $(PYTHON) -m venv $(VENV)-scan
	$(VENV)-scan/bin/python -m pip install --quiet --require-hashes -r requirements-scan.lock
	touch $@

scan: $(VENV)-scan/.installed
	$(VENV)-scan/bin/python .ci/scan

bench: $(VENV)/.installed-test
	$(BIN)/python -m bench $(ARGS)

# The wheel, installed with its scenarios in an environment of its own, runs the demo in an empty folder.
package: $(VENV)/.installed
	.ci/package $(CURDIR)/$(BIN)/python

# The container image, with docker, podman or buildah: EXTRAS=vision for cameras, BASE=IMAGE@sha256:... for another base, IMAGE=name:tag for one more name.
image:
	deploy/image/build $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(EXTRAS),--build-arg EXTRAS=$(EXTRAS)) $(if $(IMAGE),--tag $(IMAGE))

# It, built from an empty store on a base of Debian's packages, and run (minutes, as root; needs buildah and debootstrap).
test-image: $(VENV)/.installed-test
	HEADWAY_TEST_IMAGE=1 $(BIN)/python -m pytest tests/deploy/test_image.py $(ARGS)

# What compose starts, as plain processes with the same files (a minute; needs Debian's nginx, prometheus, prometheus-alertmanager).
test-deploy: $(VENV)/.installed-test
	HEADWAY_TEST_DEPLOY=1 $(BIN)/python -m pytest tests/deploy/test_deploy_processes.py tests/deploy/test_compose_postgres.py $(ARGS)

# Small faults, one at a time: does a test notice? SEED=2 draws others; PACKAGES="roads api"; COUNT=100 per package (40 if not given);
# CHANGED=REV: only lines changed since then, 20 in all.
SEED ?= 1
# ROOMS is the old name of PACKAGES.
PACKAGES ?= $(ROOMS)
mutants: $(VENV)/.installed-test
	$(BIN)/python -m bench.mutants $(PACKAGES) --seed $(SEED) $(if $(COUNT),--count $(COUNT)) $(if $(CHANGED),--changed $(CHANGED)) $(ARGS)

# Pins every dependency anew (needs `pip install uv`).
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml lock/build.in -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --extra vision pyproject.toml lock/build.in -o requirements-vision.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --extra test pyproject.toml lock/build.in -o requirements-test.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --no-deps lock/scenarios.in -o requirements-scenarios.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header lock/peers.in -o requirements-peers.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header lock/scan.in -o requirements-scan.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header lock/image.in -o requirements-image.lock

clean:
	rm -rf $(VENV) $(VENV)-peers $(VENV)-scan .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
