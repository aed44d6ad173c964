# Everything sets itself up: Python 3.11, 3.12 or 3.13 and make are enough.
PROJECT ?= .
CUSTOMERS ?= 10000

# The first that runs: a version manager's may lead nowhere.
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && command -v "$$name" && break; done)
# Relative: make cannot have a target whose path has a space in it.
VENV := .venv
STATE := .lifecycle

# The first import of a module writes its bytecode; without it every import of every step would compile again.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport VIRTUAL_ENV
# Nothing is written outside the checkout.
export UV_CACHE_DIR ?= $(CURDIR)/$(STATE)/cache/uv
export PIP_CACHE_DIR ?= $(CURDIR)/$(STATE)/cache/pip
export MPLCONFIGDIR ?= $(CURDIR)/$(STATE)/cache/matplotlib
export KERAS_HOME ?= $(CURDIR)/$(STATE)/cache/keras
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests run demo test test-fast lint bench compile images lock notices sbom audit reference pictures docs down clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make run PROJECT=examples/cdnow    the same for another project"
	@echo "  make run CUSTOMERS=1000000         a larger simulated business"

$(VENV)/bin/uv: environments/bootstrap.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed, on the PATH" >&2; exit 1; }
	@mkdir -p "$(STATE)"
	@"$(PYTHON)" -m venv "$(VENV)" || { echo "error: no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@"$(VENV)/bin/python" -m pip install --quiet --require-hashes -r environments/bootstrap.txt
	@touch "$@"

setup: $(VENV)/bin/uv ## Build the environments that the steps run in (only what is missing)
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.environments.checkout

setup-tests: $(VENV)/bin/uv
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.environments.checkout --command-line develop --testing

run: setup ## Run the whole pipeline here, up to a live v2 endpoint and a report
	@if [ "$(PROJECT)" = . ] && [ ! -e "$(STATE)/data/churn.duckdb" ]; then \
	  "$(VENV)/bin/lifecycle" simulate --output "$(STATE)/data/churn.duckdb" --customers $(CUSTOMERS) --end "$$("$(VENV)/bin/python" -c "import datetime as d; print(d.date.today() - d.timedelta(days=1))")"; fi
	@"$(VENV)/bin/lifecycle" run training --project "$(PROJECT)"

demo: setup ## Play nine months of a live business within half an hour, up to a page of five pictures
	@"$(VENV)/bin/python" demo/run.py

test: setup-tests ## Run all tests
	@"$(VENV)/bin/python" tests/run.py

test-fast: setup-tests ## Run the tests that are not slow
	@"$(VENV)/bin/python" tests/run.py --fast

lint: setup-tests ## Check style and types
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/ruff" format --check .
	@"$(VENV)/bin/mypy"

bench: setup-tests ## Measure the performance claims, as ratios in one run
	@"$(VENV)/bin/python" benchmarks/run.py

compile: setup ## Compile all pipelines for all targets, and all components
	@for target in local kubeflow vertex; do "$(VENV)/bin/python" compile.py --target $$target --project "$(PROJECT)" || exit; done
	@"$(VENV)/bin/python" compile.py --target kubeflow --pipeline training --project "$(PROJECT)" --components

images: setup ## Build the environments' images, named as compiled pipelines ask: REGISTRY=registry.example/ml
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.compilation.images --registry "$(REGISTRY)" $(IMAGES)

lock: $(VENV)/bin/uv ## Renew the pinned dependencies of every environment
	@PYTHONPATH=src PATH="$(VENV)/bin:$$PATH" "$(VENV)/bin/python" -m kfp_lifecycle.environments.lock

notices: setup ## List the packages of every environment, with their licences
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.environments.notices

reference: setup-tests ## Write the reference pages: commands, configuration, components, artifacts, alerts
	@for writer in cli.reference compilation.catalogue compilation.artifact_catalogue; do \
	  PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.$$writer || exit; done
	@"$(VENV)/bin/lifecycle" alerts --for operator > deploy/components/prometheus/rules.yaml

pictures: setup-tests ## Draw the documentation's pictures, of the newest training run here
	@"$(VENV)/bin/python" docs/make_pictures.py

docs: setup-tests ## Build the documentation's site, to build/site/
	@NO_MKDOCS_2_WARNING=1 "$(STATE)"/environments/docs-*/bin/python -m mkdocs build --quiet
	@echo "build/site/index.html"

sbom: setup-tests ## Write a bill of materials (CycloneDX) for each lock, to build/sbom/
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.environments.bill_of_materials

audit: setup-tests ## Look for known vulnerabilities in every lock, beside those that docs/security.md lists
	@PYTHONPATH=src "$(VENV)/bin/python" -m kfp_lifecycle.environments.audit

down: ## Stop all servers
	@if [ -x "$(VENV)/bin/lifecycle" ]; then "$(VENV)/bin/lifecycle" down; fi
	@if [ -x "$(VENV)/bin/lifecycle" ] && [ -d "$(STATE)/demo" ]; then LIFECYCLE_STATE="$(STATE)/demo" "$(VENV)/bin/lifecycle" down; fi

clean: down ## Remove everything that was built or run here
	@rm -rf "$(VENV)" "$(STATE)" build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
