# `make help` lists the targets. Each can be repeated; CLUSTER=name chooses one of several clusters.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_DOCS := .venv-docs
CODE := operator/src base-image/src cli/src hack tests examples benchmarks
WORKERS ?= 4
# What was compiled is kept, also where the environment says otherwise: else each worker compiles every test each time.
UNIT = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -q --numprocesses auto --durations 20 -m "not cluster" tests

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: cluster images ## start the cluster, install the chart, apply three example Skills and call them
	@$(PYTHON) -m hack.demo

test: export NO_SKIPS = 1
test: verify install ## run every check and test, those of `make unit` beside the ones that wait most
	@$(BIN)/python -m hack.integration $(WORKERS) $(UNIT)

cluster: ## start the cluster, without the operator
	@$(PYTHON) -m hack.cluster up

images: ## build this checkout's images
	@$(PYTHON) -m hack.images

publish: ## build the images and push them to your registry: make publish TO=registry.example/team
	@$(PYTHON) -m hack.publish $(or $(TO),$(error name the registry: make publish TO=registry.example/team)) $(OPTIONS)

install: cluster images ## install the chart into the namespace skill-operator
	@$(PYTHON) -m hack.install

cli: $(VENV)/ready ## build the plugin of kubectl: dist/kubectl-skill
	@$(BIN)/python -m hack.cli $(OPTIONS)

unit: $(VENV)/ready ## run the tests that need no cluster; without helm those of the chart are skipped
	@$(UNIT) --numprocesses $$((2 * $$(getconf _NPROCESSORS_ONLN)))  # many of them wait

integration: $(VENV)/ready install ## run the tests that need a cluster, WORKERS of them side by side
	@$(BIN)/python -m hack.integration $(WORKERS)

verify: $(VENV)/ready ## check format, lint, types, import layers and generated files
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy
	@PYTHONPATH=operator/src:base-image/src:cli/src $(BIN)/lint-imports --no-logo
	@PYTHONPATH=operator/src $(BIN)/python -m skill_operator.api.crd --check crds
	@cmp crds/skill-operator.dev_skills.yaml charts/skill-operator/files/crds/skill-operator.dev_skills.yaml
	@PYTHONPATH=operator/src:cli/src:. $(BIN)/python -m hack.docs --check docs
	@$(BIN)/python -m hack.argocd --check

generate: $(VENV)/ready ## write the generated files: the CRD, the chart's copy of it, pages of docs/
	@PYTHONPATH=operator/src $(BIN)/python -m skill_operator.api.crd crds
	@mkdir -p charts/skill-operator/files/crds && cp crds/*.yaml charts/skill-operator/files/crds/
	@PYTHONPATH=operator/src:cli/src:. $(BIN)/python -m hack.docs docs
	@$(BIN)/python -m hack.argocd

format: $(VENV)/ready ## format the code
	@$(BIN)/ruff format --quiet $(CODE)
	@$(BIN)/ruff check --quiet --fix $(CODE)

check-docs: $(VENV)/ready install ## run each target that a page names, in its shortest form
	@$(PYTHON) -m hack.check_docs

bench: $(VENV)/ready install ## measure start and wake of a Skill, beside a bare Deployment
	@export PYTHONPATH=operator/src:. KUBECONFIG=$$($(PYTHON) -m hack.cluster env | sed -E "s/.*KUBECONFIG=([^ ]+).*/\1/"); \
	$(BIN)/python -m benchmarks && $(BIN)/python -m benchmarks.wake

bench-gates: $(VENV)/bench ## measure how often the gates are wrong, on HumanEval and its mutants; needs no cluster
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.gates

bench-search: $(VENV)/bench ## measure how agents find a tool among a thousand; needs no cluster
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.search

bench-opinions: $(VENV)/bench ## measure what a second program finds that three examples let pass; needs no cluster
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.opinions

bench-relay: $(VENV)/ready ## measure the gateway beside nginx and the runtime's start; needs nginx and wrk, no cluster
	@export PYTHONPATH=operator/src:base-image/src:.; $(BIN)/python -m benchmarks.start; $(BIN)/python -m benchmarks.relay

bench-races: $(VENV)/ready install ## call Skills that fall asleep, a thousand times, while gateways are killed
	@PYTHONPATH=operator/src:. $(BIN)/python -m benchmarks.races

bench-soak: $(VENV)/ready install ## call two tenants' Skills while a third tries to stop the operator
	@PYTHONPATH=operator/src:. $(BIN)/python -m benchmarks.soak

bench-generation: $(VENV)/bench ## run the loop in 600 orders of events, then with a tiny model; needs no cluster
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.generation

bench-model: $(VENV)/bench ## measure a model: OPENAI_BASE_URL=... SKILL_MODEL=... TASKS=20; without these a tiny one
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.model

bench-replay: $(VENV)/bench ## measure what each stop rule costs and saves, on traces of repairs; needs no cluster
	@PYTHONPATH=operator/src:base-image/src:. $(BIN)/python -m benchmarks.replay

screenshots: $(VENV)/ready install ## take the pictures of the page that README and docs show
	@SCREENSHOTS=docs/images $(BIN)/pytest -q tests/integration/test_page.py

doctor: ## check that kubectl's current cluster has what the operator needs
	@kubectl -n $(or $(NAMESPACE),skill-operator) exec deployment/skill-operator-controller -- python3 -m skill_operator doctor

docs: $(VENV_DOCS)/ready ## build the documentation site into site/; a dead link or a warning fails it
	@NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --strict
	@echo "site/index.html"

release-notes: ## print a version's section of CHANGELOG.md: make release-notes VERSION=0.1.0
	@$(PYTHON) -m hack.release_notes $(or $(VERSION),Unreleased)

down: ## delete the cluster and everything it left on this machine
	@$(PYTHON) -m hack.cluster down

$(VENV)/ready: operator/requirements-dev.txt
	@echo "installing the tools for development into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes --requirement $<
	@touch $@

$(VENV_DOCS)/ready: docs/requirements.txt
	@echo "installing the generator of the documentation into $(VENV_DOCS)"
	@$(PYTHON) -m venv $(VENV_DOCS)
	@$(VENV_DOCS)/bin/pip install --quiet --require-hashes --requirement $<
	@touch $@

.NOTPARALLEL:
$(VENV)/bench: benchmarks/requirements.txt $(VENV)/ready
	@$(BIN)/pip install --quiet --require-hashes --no-deps --requirement $<
	@touch $@

.PHONY: help demo test check-docs cluster images publish install cli unit integration verify generate format bench bench-gates \
	bench-relay bench-races bench-soak bench-generation bench-model bench-opinions bench-replay bench-search \
	doctor docs release-notes down screenshots
