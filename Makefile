# Needs only Python 3.11+ and pip: `make demo`, `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Environments are built in parallel; steps that need an order are one recipe.
MAKEFLAGS += --no-print-directory -j3
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-batch test check nightly nightly-speed screenshots lint lock layers deploy verify-aws clean environment tools

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
# The Lambda runtime's, which compiles the layers.
RUNTIME_VERSION := 3.13
TOOLS := .millrace/tools
STAMPS := .millrace/stamps
# Of `make verify-aws`, for the SAM CLI.
STACK ?= millrace
AWS_OPTIONS = --stack-name $(STACK) $(if $(PROFILE),--profile $(PROFILE)) $(if $(REGION),--region $(REGION))
# The end-to-end tests mostly wait: a third process uses that time.
PYTEST_OPTIONS ?= -n 3 --dist loadfile -q

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: environment $(STAMPS)/sam $(STAMPS)/ministack  ## Run the demonstration: start the local stack, train and serve two models, stop it
	@$(BIN)/millrace demo $(DEMO_OPTIONS)

demo-batch: environment $(STAMPS)/sam $(STAMPS)/ministack  ## Score a file of a million rows on the local stack, with its progress
	@$(BIN)/millrace demo --batch $(DEMO_OPTIONS)

test: environment tools  ## Run every test
	@$(BIN)/pytest $(PYTEST_OPTIONS)

check:  ## Run what CI runs: ruff, mypy, import-linter, every test
	@$(MAKE) lint
	@$(MAKE) test

# TABLES: the folder with the public tables that docs/benchmarks.md names.
nightly: environment  ## Check that the intervals of metrics cover on real tables (TABLES=DIR; about six minutes of processor time)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/intervals/coverage.py --tables $(or $(TABLES),$(error TABLES=DIR is needed)) --check

screenshots: environment $(STAMPS)/browser  ## Take the console's pictures in docs/console/ from the running local stack (after make demo DEMO_OPTIONS=--keep)
	@$(BIN)/python docs/take_screenshots.py docs/console

nightly-speed: environment  ## Check that requests, cold starts and commands have not become a third slower (ratios of one run; minutes)
	@$(BIN)/python benchmarks/serving/compare.py --check
	@$(BIN)/python benchmarks/serving/coldstart.py --check
	@$(BIN)/python benchmarks/start.py --check

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy shared cli
	$(BIN)/lint-imports

layers: environment  ## Build the Lambda layers for the Lambda runtime
	@$(MAKE) -C layers all UV=$(abspath $(UV))

deploy: environment $(STAMPS)/sam  ## Build and deploy to AWS (SAM_OPTIONS="--stack-name ... --profile ... --region ...")
	@$(BIN)/python -B -c 'from layers.targets import find_compiler; raise SystemExit(find_compiler() is None)' \
	  || $(UV) python install --quiet $(RUNTIME_VERSION) \
	  || echo "Python $(RUNTIME_VERSION) could not be installed: layers without bytecode start about three times as slowly"
	$(TOOLS)/sam/bin/sam build
	$(TOOLS)/sam/bin/sam deploy $(SAM_OPTIONS)

verify-aws: environment  ## Check a stack on AWS (PROFILE=... STACK=... REGION=...; DEPLOY=yes deploys it first)
	@$(if $(DEPLOY),$(MAKE) deploy SAM_OPTIONS="--no-confirm-changeset $(AWS_OPTIONS)",true)
	@$(BIN)/millrace verify $(subst --stack-name,--stack,$(AWS_OPTIONS)) $(VERIFY_OPTIONS)

lock: environment  ## Update the pinned requirements
	@for name in bootstrap layers dev sam ministack checkov clients older_clients browser mlflow_pages; do \
	  echo "requirements/$$name.txt"; \
	  (cd requirements && ../$(UV) pip compile $$name.in --output-file $$name.txt --quiet --upgrade \
	    --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	    --no-emit-index-url --no-header --annotation-style line $$([ $$name = mlflow_pages ] && echo --no-deps)); \
	done

clean:  ## Stop the local stack; remove environments, builds and caches
	@if [ -x $(BIN)/millrace ]; then $(BIN)/millrace local down || true; fi
	rm -rf .venv .millrace .aws-sam layers/.build layers/*/build .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis *.egg-info shared/*.egg-info cli/*.egg-info

# -- environments: each is built once, and again when its lock changes -------------------------------------------
# Bytecode is compiled once: where Python may not write it, every process would compile scikit-learn again (2 s).

environment: $(STAMPS)/environment
tools: $(STAMPS)/sam $(STAMPS)/ministack $(STAMPS)/checkov $(STAMPS)/clients $(STAMPS)/older_clients $(STAMPS)/browser $(STAMPS)/mlflow_pages

$(STAMPS)/bootstrap: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit("Millrace needs Python 3.11 or newer; try: make PYTHON=python3.11" \
	  if sys.version_info < (3, 11) else 0)'
	@echo "==> environment: .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/environment: $(STAMPS)/bootstrap requirements/dev.txt pyproject.toml
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/bootstrap.txt requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# sam and ministack pin conflicting botocore versions, so every tool has its own environment.
$(STAMPS)/%: requirements/%.txt $(STAMPS)/bootstrap
	@echo "==> tool: $(TOOLS)/$*"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(TOOLS)/$*
	@$(UV) pip sync --quiet --compile-bytecode --python $(TOOLS)/$*/bin/python --require-hashes $<
	@touch $@
