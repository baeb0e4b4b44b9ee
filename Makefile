# Everything that a person does with this folder. `make` alone lists it.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PYTHON_BIN := .venv/bin

HOME_DIR ?= home
BACKEND ?= local
PORT ?=
BASE ?= python:3.12-slim
IMAGE ?= mudeung/notebook:latest
ARGS ?=
JOBS ?=
LOAD ?=
UV_VERSION := 0.13
# The version that the chart takes when its values name none.
CHART_VERSION = $(shell sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}/\1/p' helm/mudeung/Chart.yaml)

# A lock names versions and hashes for every system and Python from 3.11 on, and no package index.
COMPILE = $(PYTHON_BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header $(ARGS)

.PHONY: help setup run demo demo-kubernetes gpu-check test nightly lint bench image platform-image postgresql-image bundle lab lock clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: BACKEND=$(BACKEND) (or docker), PORT=, HOME_DIR=$(HOME_DIR), BASE=$(BASE), LOAD=, ARGS="

setup: ## Set up .venv and the proxy, as the targets below do themselves
	@scripts/setup

run: setup ## Start the platform (HOME_DIR, PORT, BACKEND)
	@$(ensure_image)
	@$(PYTHON_BIN)/mudeung up --home $(HOME_DIR) --backend $(BACKEND) $(if $(PORT),--port $(PORT)) $(ARGS)

demo: setup ## Show the whole round on this machine, and clean up after it (BACKEND)
	@$(ensure_image)
	@$(PYTHON_BIN)/mudeung demo --backend $(BACKEND) $(ARGS)

demo-kubernetes: setup ## Show the whole round on a cluster (LOAD="kind load docker-image" builds and loads images, BASE)
	@$(if $(LOAD),$(MAKE) platform-image postgresql-image image ARGS= IMAGE=$(word 3,$(CLUSTER_IMAGES)))
	@$(if $(LOAD),$(LOAD) $(CLUSTER_IMAGES))
	@$(PYTHON_BIN)/mudeung demo --backend kubernetes $(ARGS)

gpu-check: setup ## Show all of it on this machine's own GPUs (BACKEND, ARGS="--write FILE")
	@$(ensure_image)
	@$(PYTHON_BIN)/mudeung gpu-check --backend $(BACKEND) $(ARGS)

test: setup ## Run the tests (ARGS="-k word" for some of them, JOBS=3 for three lanes of them at a time)
	@$(PYTHON_BIN)/pytest $(if $(JOBS),--numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder) $(ARGS)

nightly: setup ## Walk far: 20,000 random walks over the engine on each database (hours)
	@HYPOTHESIS_PROFILE=nightly $(PYTHON_BIN)/pytest tests/services/test_machine.py tests/services/test_whole.py \
		tests/services/test_concurrency.py $(ARGS)

lint: setup ## Check style, types and layers
	$(PYTHON_BIN)/ruff check
	$(PYTHON_BIN)/ruff format --check
	$(PYTHON_BIN)/mypy
	$(PYTHON_BIN)/lint-imports
	$(PYTHON_BIN)/python -m helm.schema --check

bench: setup ## Measure the figures that the project promises
	@$(PYTHON_BIN)/python -m bench $(ARGS)

image: ## Build the notebook image (BASE: the image it stands on)
	docker build --file images/notebook/Dockerfile --build-arg BASE=$(BASE) --tag $(IMAGE) $(ARGS) .

platform-image: ## Build the image of the platform's own programs, for a cluster (BASE)
	docker build --file images/platform/Dockerfile --build-arg BASE=$(BASE) \
		--tag mudeung/platform:latest --tag mudeung/platform:$(CHART_VERSION) $(ARGS) .

postgresql-image: ## Build a small PostgreSQL image, for evaluation on a cluster without a registry (BASE: Debian)
	docker build --file images/postgresql/Dockerfile --build-arg BASE=$(BASE) --tag mudeung/postgresql:latest $(ARGS) .

bundle: ## Put chart, images and documentation into one file, for a cluster without internet (ARGS: the folder)
	@scripts/bundle $(ARGS)

lab: setup ## Build the JupyterLab extension anew, after a change of client/lab/src (Node 20.19 or newer)
	cd client/lab && npm ci --ignore-scripts --no-audit --no-fund && PATH="$(CURDIR)/$(PYTHON_BIN):$$PATH" npm run build

lock: setup ## Compile the lock files anew (ARGS=--upgrade takes newer versions)
	@$(PYTHON_BIN)/python -m pip --disable-pip-version-check install --quiet 'uv~=$(UV_VERSION)'
	$(COMPILE) --extra dev --output-file requirements.lock pyproject.toml
	$(COMPILE) --output-file images/platform/requirements.lock pyproject.toml images/platform/requirements.in
	$(COMPILE) --group node --output-file requirements-node.lock
	$(COMPILE) --output-file images/notebook/requirements.lock images/notebook/requirements.in
	npm install --package-lock-only --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
	cd client/lab && npm install --package-lock-only --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved

clean: ## Remove what setup and the tools made; home folders and images stay
	rm -rf .venv node_modules build client/lab/node_modules client/lab/lib .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a cluster's machines need; LOAD is a command that takes these names. Without it the images are there already.
CLUSTER_IMAGES = mudeung/platform:latest mudeung/postgresql:latest mudeung/notebook:latest

# Servers in containers need the image; one that is there is taken as it is.
ensure_image = if [ "$(BACKEND)" = docker ]; then \
	docker image inspect $(IMAGE) >/dev/null 2>&1 || $(MAKE) image ARGS=; fi
