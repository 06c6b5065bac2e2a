# Needs only make and Python >= 3.11. Everything else is installed here: Python packages into .venv,
# and, when run as root on a Debian-like system, the few system packages named below.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
SYSTEM_PACKAGES := libbpf1 iproute2 curl
BENCH_PACKAGES := wrk nghttp2-client
# the other compiler: tests hold both to the same behaviour
TEST_PACKAGES := 'clang-19|clang-18|clang-17|clang-16'
PYTEST ?= $(BIN)/python -m pytest -p tests.plugins.kernel_required

.PHONY: demo test test-all check golden bench clean distclean setup
.DELETE_ON_ERROR:

demo: $(VENV)/.stamp-bench
	$(BIN)/python -m policies.demo.app

test: $(VENV)/.stamp-dev $(VENV)/.stamp-bench
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.stamp-dev $(VENV)/.stamp-bench
	$(PYTEST)

check: $(VENV)/.stamp-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -q tests/golden --update-golden

bench: $(VENV)/.stamp-bench
	$(BIN)/l7fp bench http1 -o bench-results

setup: $(VENV)/.stamp-dev $(VENV)/.stamp-bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "l7fp needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-system: .ci/system-packages | $(VENV)/bin/python
	.ci/system-packages $(SYSTEM_PACKAGES)
	@touch $@

$(VENV)/.stamp-core: pyproject.toml $(VENV)/.stamp-system
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cc,fast]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-core
	.ci/system-packages $(TEST_PACKAGES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-core
	.ci/system-packages $(BENCH_PACKAGES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

clean:
	rm -rf build dist bench-results *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find l7fp slowpath bench policies tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
