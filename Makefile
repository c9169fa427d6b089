# `make demo` and `make test` are the two commands of a fresh machine; `make bench` and `make soak` measure. Each
# installs what it needs, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
# real: vLLM's CPU build. emulated: a small engine with vLLM's routes, metrics and shutdown behaviour.
ENGINE ?= $(if $(filter soak endurance,$(MAKECMDGOALS)),emulated,real)
NODES ?= 2
NOTICE_SECONDS ?= 120
# Of make demo; make endurance has its own.
INTERRUPTIONS ?= 2
CLIENTS ?= 4
# All by default: what runs engines and fleets one after another, the rest on two processors.
TESTS ?= tests
# Hundreds of short cases on a deployed control plane whose nodes are bare: each processor deploys its own.
WITHOUT_NODES := tests/local/faults tests/local/security
# Of make bench: pairs of starts. Of make soak: boots and drains.
RUNS ?= 3
CYCLES ?= 50
# Of make bench and make storm: the nodes that go in the same second, and their fleets.
STORM_NODES ?= 1000
STORM_FLEETS ?= 20

# $(call given,NAME,--option): the option where somebody set NAME, on the command line or in the environment.
given = $(if $(filter-out undefined file,$(origin $(1))),$(2) $($(1)))

VENV := .venv
BIN := $(VENV)/bin
ENGINE_VENV := .venv-engine
VLLM_VERSION := $(shell cat gpu_node_bootstrap/vllm_version.txt)
TORCH_VERSION ?= 2.13.0+cpu
# Tried second, where pip's own links do not hold the CPU build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Without .pyc files vLLM takes three times as long to start.
unexport PYTHONDONTWRITEBYTECODE
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION = 20

.PHONY: help
help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/.installed: requirements.txt requirements-dev.txt lambdas/requirements.txt
	@scripts/install-tools "$(PYTHON)" "$(VENV)"

node_modules/.installed: package.json package-lock.json
	@scripts/install-cdk

$(ENGINE_VENV)/.installed-$(VLLM_VERSION): gpu_node_bootstrap/vllm_version.txt scripts/install-engine
	@scripts/install-engine "$(PYTHON)" "$(ENGINE_VENV)" "$(VLLM_VERSION)" "$(TORCH_VERSION)" "$(TORCH_INDEX)"

.PHONY: setup setup-real setup-emulated
setup: $(BIN)/.installed node_modules/.installed ## Install the tools and the CDK command line.
setup-emulated: setup
setup-real: setup $(ENGINE_VENV)/.installed-$(VLLM_VERSION)

# Only for the targets that use it: without this, make would complain of a missing rule.
ifneq ($(filter demo bench soak endurance,$(MAKECMDGOALS)),)
ifeq ($(filter real emulated,$(ENGINE)),)
$(error ENGINE is "$(ENGINE)"; allowed: real, emulated)
endif
endif

.PHONY: demo
demo: setup-$(ENGINE) ## Interrupt nodes of a local fleet and show that clients notice nothing.
	@$(BIN)/python -m local_aws.demo --engine $(ENGINE) --nodes $(NODES) --notice-seconds $(NOTICE_SECONDS) \
		--interruptions $(INTERRUPTIONS) --clients $(CLIENTS)

.PHONY: bench
bench: setup-$(ENGINE) ## Measure nodes, their boot budget, the functions' cold starts, and a storm.
	@$(BIN)/python -m bench.node --engine $(ENGINE) --runs $(RUNS)
	@$(BIN)/python -m bench.control_plane.cold_start
	@$(BIN)/python -m bench.control_plane.storm --nodes $(STORM_NODES) --fleets $(STORM_FLEETS)

.PHONY: storm
storm: setup ## Interrupt a thousand nodes in the same second, beside the published pattern.
	@$(BIN)/python -m bench.control_plane.storm --nodes $(STORM_NODES) --fleets $(STORM_FLEETS)

.PHONY: soak
soak: setup-$(ENGINE) ## Boot and drain a node fifty times, and look for what it leaves behind.
	@$(BIN)/python -m bench.node.cycles --engine $(ENGINE) --cycles $(CYCLES)

.PHONY: endurance
endurance: setup-$(ENGINE) ## Interrupt a hundred nodes in a row under steady traffic; look for what is lost, or grows.
	@$(BIN)/python -m bench.endurance --engine $(ENGINE) $(call given,INTERRUPTIONS,--interruptions) \
		$(call given,REQUESTS,--requests)

# Of make properties: on every core; what they were is in docs/measured/properties.json.
EXAMPLES ?= 20000
INPUTS ?= 100000
SEED ?= 1

.PHONY: properties
properties: $(BIN)/.installed ## Play 20,000 scenarios and 100,000 hostile messages, and write down what came of them.
	@PYTHONPATH=lambdas $(BIN)/python -m tests.properties.record --examples $(EXAMPLES) --inputs $(INPUTS) --seed $(SEED)

.PHONY: test
test: setup-real lint ## Everything: lint, types, unit, infrastructure, and the local AWS with real vLLM.
	@scripts/install-cloud-init .cache/cloud-init
ifeq ($(TESTS),tests)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/local tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist load $(WITHOUT_NODES)
	@$(BIN)/python -m pytest $(addprefix --ignore ,$(WITHOUT_NODES)) tests/local
else
	@$(BIN)/python -m pytest $(TESTS)
endif

.PHONY: lint
lint: $(BIN)/.installed ## ruff, mypy --strict and shellcheck.
	@$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --no-cache --check . && $(BIN)/mypy && $(BIN)/shellcheck gpu_node_bootstrap/*.sh gpu_node_bootstrap/image/*.sh scripts/*

.PHONY: synth
synth: setup ## Synthesize the templates (no AWS access needed).
	@PATH="$(CURDIR)/$(BIN):$$PATH" npx cdk synth --quiet

.PHONY: clean
clean: ## Remove what the commands above made.
	@rm -rf $(VENV) $(ENGINE_VENV) node_modules cdk.out out .cache
