# Cloister's verbs. Bare `make` lists them.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
CLIENTS = .venv-clients
# Written by scripts/install.py when everything is in place and proven.
STAMP = $(VENV)/cloister-install.json

.DEFAULT_GOAL := help
.PHONY: help install run sideload test test-sealed test-clients check fix bench sbom clean

help: ## List the targets
	@echo 'Cloister: an offline-first local inference server on llama.cpp'
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
	  while IFS='|' read -r target text; do printf '%-20s%s\n' "$$target" "$$text"; done
	@echo
	@echo 'Options: ARGS="..." for run, tests and bench; PYTHON=python3.12 for install.'

install: ## Create .venv with the engine and all tools in it, and prove that it works
	@$(PYTHON) scripts/install.py

$(STAMP): pyproject.toml scripts/install.py scripts/engine_install.py scripts/engine_flags.py scripts/prove_engine.py
	@$(PYTHON) scripts/install.py

run: $(STAMP) ## Serve on 127.0.0.1:1234, e.g. make run ARGS="--models-dir DIR"
	@$(BIN)/cloister serve $(ARGS)

sideload: $(STAMP) ## Take a model into the store: MODEL=path.gguf [SHA256=...] [AS=publisher/name]
	@# The variables come by the environment, so any file name goes.
	@test -n "$$MODEL" || { echo 'Say which file: make sideload MODEL=path.gguf' >&2; exit 2; }
	@$(BIN)/cloister import "$$MODEL" $${SHA256:+--sha256 "$$SHA256"} $${AS:+--as "$$AS"} $(ARGS)

test: $(STAMP) ## Run the tests, e.g. make test ARGS="-k config"
	@$(BIN)/python -m pytest $(ARGS)

test-sealed: $(STAMP) ## Run the tests where there is no network but loopback (Linux)
	@unshare --user --map-root-user --net sh -c 'ip link set lo up && exec "$$@"' \
	  sealed $(BIN)/python -m pytest $(ARGS)

test-clients: $(STAMP) $(CLIENTS)/ready ## Try the clients that people use against a real server
	@CLOISTER=$(CURDIR)/$(BIN)/cloister $(CLIENTS)/bin/python -m pytest -c tests/clients/pytest.ini --confcutdir tests/clients -p no:cacheprovider tests/clients $(ARGS)

$(CLIENTS)/ready: tests/clients/requirements.txt tests/clients/package.json
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
	@# The Node client is tested where there is Node; no package may run a program.
	@if command -v npm >/dev/null; then \
	  cp tests/clients/package.json $(CLIENTS)/ && \
	  npm install --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund --silent; fi
	@touch $@

check: $(STAMP) ## Check style, types and the layers of the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP) ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## Measure the server against a bare llama.cpp loop
	@$(BIN)/python scripts/bench.py $(ARGS)

sbom: $(STAMP) ## Write the bill of materials (CycloneDX) to build/cloister.cdx.json
	@$(BIN)/python scripts/sbom.py $(ARGS)

clean: ## Remove .venv and all caches in the checkout (not the wheel cache)
	rm -rf $(VENV) $(CLIENTS) .install.lock dist build .coverage htmlcov .hypothesis \
	  .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find server model_store scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
