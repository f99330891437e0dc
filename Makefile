# `make demo` and `make test` are all that a new machine needs; both install what they use.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.PHONY: help demo test lint bench faults money lock clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /	/' | expand -t 12

demo: $(VENV)/.base  ## a gateway with a simulated provider: first answer without account, key or server
	@$(VENV)/bin/llm-gateway demo

test: $(VENV)/.test node redis lint  ## lint, types, import law and every test
	@$(PY) -m tests.run

lint: $(VENV)/.test  ## style, types and the import law
	@$(VENV)/bin/ruff check -q .
	@$(VENV)/bin/ruff format -q --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache >/dev/null || $(VENV)/bin/lint-imports --no-cache

bench: $(VENV)/.test  ## speed and cost of a request, beside other gateways (downloads them once)
	@$(PY) -m tests.bench.run

faults: $(VENV)/.test  ## what clients see of each provider fault, alone and with a spare, as a table
	@$(PY) -m tests.faults

money: $(VENV)/.test redis  ## budgets and limits over three replicas and a real Redis, through kills and freezes
	@$(PY) -m tests.money

.PHONY: node redis
node: $(VENV)/.test
	@sh tests/setup.sh node
redis:
	@sh tests/setup.sh redis

lock:  ## renew the lock files from pyproject.toml
	@$(PIP) install 'pip-tools>=7.4,<8'
	@$(VENV)/bin/pip-compile $(LOCK) --extra build --output-file requirements.lock pyproject.toml
	@$(VENV)/bin/pip-compile $(LOCK) --extra build --extra test --output-file requirements-test.lock pyproject.toml
LOCK := --quiet --allow-unsafe --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

clean:  ## forget everything that was installed or built
	rm -rf $(VENV) .bench tests/clients/node/node_modules

$(VENV)/bin/python:
	@sh tests/setup.sh python
	@echo "making a virtual environment in $(VENV)"
	@python3 -m venv $(VENV)

$(VENV)/.base: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing llm-gateway (a minute or two, once)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements-test.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing llm-gateway and what its tests need (a minute or two, once)"
	@$(PIP) install --require-hashes -r requirements-test.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.base
