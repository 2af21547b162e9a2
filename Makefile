# visiongate. `make demo` and `make test` need only Python 3.11 or later, make and git.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= auto
MINUTES ?= 10
SECONDS ?= 60
LOCK    = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
          --no-annotate --custom-compile-command 'make lock'
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check chaos soak fuzz bench format clients node clean dashboards image \
        lock sbom audit

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.installed  ## the whole gateway on embedded parts; prints a curl to paste
	@$(BIN)/visiongate demo

test: $(VENV)/.dev  ## the tests
	$(BIN)/pytest -n $(JOBS)

check: $(VENV)/.dev $(BIN)/helm  ## format, lint, types, import layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(JOBS)

chaos: $(VENV)/.dev  ## faults at full size, under load: about 35 minutes
	$(BIN)/pytest -p no:cacheprovider -m chaos -s --tb=short tests/chaos

soak: $(VENV)/.dev  ## mixed traffic, then 1,000 open streams, for MINUTES (10) each
	MINUTES=$(MINUTES) $(BIN)/pytest -p no:cacheprovider -m soak -s --tb=short tests/chaos

fuzz: $(VENV)/.dev  ## hostile URLs, images, requests: SECONDS (60) for a target, 100,000 requests
	SECONDS=$(SECONDS) $(BIN)/pytest -p no:cacheprovider -m fuzz -s --tb=short tests/fuzz tests/store

bench: $(VENV)/.installed  ## what a stream costs, beside others; on a quiet Linux machine. ARGS="--help"
	@$(BIN)/python -m bench.run $(ARGS)

clients: $(VENV)/.dev  ## client libraries against a running gateway (needs Node.js). ARGS="--only curl"
	@$(BIN)/python -m tests.clients $(ARGS)

node: $(VENV)/.dev  ## the official Node SDK alone, in more detail
	$(BIN)/python -m tests.clients.run_node

dashboards: $(VENV)/.installed  ## write grafana/dashboards/*.json from grafana/source
	$(BIN)/python -m grafana.source

image: $(VENV)/.dev  ## the image's steps as they stand in deploy/Dockerfile, without an engine
	$(BIN)/pytest -p no:cacheprovider -m image tests/deploy

lock: $(VENV)/.release  ## deploy/lock: what the image is made of, every file with its hash
	$(LOCK) --output-file deploy/lock/requirements.txt pyproject.toml
	$(LOCK) --output-file deploy/lock/build.txt deploy/lock/build.in

sbom: $(VENV)/.release  ## dist/visiongate.cdx.json: what the image is made of, as CycloneDX
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/visiongate.cdx.json deploy/lock/requirements.txt

audit: $(VENV)/.release  ## known vulnerabilities of what is locked; fails where it cannot ask
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r deploy/lock/requirements.txt

format: $(VENV)/.dev  ## lay out the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "visiongate needs Python 3.11 or later; try: make PYTHON=python3.11" >&2; exit 1; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing visiongate"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing visiongate and what its tests need"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.release: pyproject.toml | $(VENV)/bin/python
	@echo "installing what a release is made with"
	@$(PIP) install -e '.[release]'
	@touch $@

$(BIN)/helm: tests/deploy/helm.py | $(VENV)/.dev
	@echo "installing Helm, by which the chart is tested"
	@$(BIN)/python -m tests.deploy.helm
