# Every target sets up what it needs in a virtual environment inside this folder, and says what it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# One version for everybody: the oracle's answers, and the text of its repr, are compared to the letter.
TORCH ?= torch==2.13.0
# Training uses small matrices, which more BLAS threads only slow down; and the thread count can change the last bit.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format campaigns faults resume repro arm hostile damage fuzz bench wheel-check clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-train  ## load pretrained models and predict, train one, publish it, load it back bit for bit
	@$(BIN)/python examples/demo.py

# On every core, up to eight. PYTEST_ARGS="tests/core -x" narrows it.
PYTEST = $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadgroup
test: $(VENV)/.ready-test  ## run the tests against the installed package: about four minutes, no PyTorch or Keras
	@echo "running the tests with $$($(BIN)/python --version)"
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.ready-oracles build/readers/.ready  ## run every test, with PyTorch and Keras to compare with, and measure the coverage
	@$(PYTEST) --cov --cov-report=term $(or $(PYTEST_ARGS),--cov-fail-under=95)

check: $(VENV)/.ready-check build/typing  ## formatting, lint, types and spelling, over library, scripts and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell

format: $(VENV)/.ready-check  ## format the code and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Half an hour; ONLY="world/world" narrows it. A campaign that fails prints how to repeat it.
CAMPAIGNS := races/threads races/readers races/copies races/entries processes/signals processes/forks \
  interrupts/interrupts power/campaign world/world foreign_hdf5
campaigns: $(VENV)/.ready-test  ## interrupt, fork, copy, race and cut off everything, and print the counts
	@for campaign in $(or $(ONLY),$(CAMPAIGNS)); do \
	  echo "--- $$campaign"; $(BIN)/python tests/campaigns/$$campaign.py || exit 1; \
	done

faults: $(VENV)/.ready-test  ## interrupt saves at each of their system calls, in every way, and print the counts
	@$(BIN)/python tests/campaigns/faults/campaign.py

# Half an hour; RESUME_ARGS="--epochs 3 --seed 7 tense-mlp" narrows it.
resume: $(VENV)/.ready-test  ## kill the training of every entry 16 times, resume it, and compare the final bytes
	@$(BIN)/python tests/campaigns/resume/campaign.py $(RESUME_ARGS)

repro: $(VENV)/.ready-train  ## train every entry again and compare the weights with the published ones
	@$(BIN)/python scripts/verify_zoo.py --repro

arm:  ## verify, save, load and train on an emulated aarch64 processor (needs apt-get; no privileges)
	@PYTHON=$(PYTHON) bash .ci/arm

hostile: $(VENV)/.ready-test  ## read every hostile file in every way, and print the outcomes
	@$(BIN)/python tests/hostile/hostile_campaign.py

damage: $(VENV)/.ready-test  ## damage files at random, 12,000 in each format, and print the outcomes
	@$(BIN)/python tests/hostile/damage.py 12000

# What is found is kept in build/fuzz, what breaks as build/fuzz/crash-...
FUZZ_RUNS ?= 1000000
fuzz: $(VENV)/.ready-fuzz  ## fuzz the readers, guided by coverage
	@for format in safetensors hdf5 torch npz; do \
	  mkdir -p build/fuzz/$$format; \
	  $(BIN)/python tests/fuzz/fuzz_$$format.py -runs=$(FUZZ_RUNS) -max_len=4096 -print_final_stats=1 \
	    -dict=tests/fuzz/words.dict -artifact_prefix=build/fuzz/ build/fuzz/$$format tests/fuzz/corpus/$$format || exit 1; \
	done

# Checkpoints are measured with the threads that a user has; half an hour. BENCH_ARGS="--work toy,cold" narrows it,
# ENGINE_ARGS="--work tense" the training steps, which set the threads of their processes themselves.
bench: $(VENV)/.ready-bench  ## time our checkpoints and training steps against the peers', side by side
	@env -u OMP_NUM_THREADS -u OPENBLAS_NUM_THREADS $(BIN)/python benchmarks/checkpoints.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/engine.py $(ENGINE_ARGS)
	@$(BIN)/python benchmarks/background.py
	@$(BIN)/python benchmarks/edits.py
	@$(BIN)/python benchmarks/torch_models.py

wheel-check:  ## build a wheel, install it into a fresh environment, use it from another folder
	@PYTHON=$(PYTHON) bash .ci/wheel

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage

# One stamp for each set of extras; a change of what is installed installs again.
$(VENV)/.ready-%: pyproject.toml setup.py
	@test -x $(BIN)/python || { echo "creating a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@case $* in check) extras=oracles,check;; *) extras=$*;; esac; \
	case $$extras in *oracles*|bench) \
	  echo "installing PyTorch, which the tests compare with (its CPU build where one is at hand)"; \
	  $(PIP) "$(TORCH)";; \
	esac; \
	echo "installing statezoo[$$extras]"; \
	$(PIP) --editable ".[$$extras]"
	@touch $@

# The libraries that open our files and do not fit into one environment.
build/readers/.ready: $(VENV)/.ready-oracles tests/interoperability/environments.py
	@$(BIN)/python tests/interoperability/environments.py
	@touch $@

# Type checkers cannot follow an editable install: give them the folders under their import name.
build/typing:
	@mkdir -p $@/statezoo
	@for folder in core checkpoints zoo scripts; do ln -sfn ../../../$$folder $@/statezoo/$$folder; done
	@for file in __init__.py __main__.py py.typed; do ln -sfn ../../../package/$$file $@/statezoo/$$file; done
