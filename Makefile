# duologue. `make talk` hears it, `make test` checks it; everything lives in .venv/.

VENV := .venv
BIN := $(VENV)/bin
# The Triton wheel exists for Python 3.10 to 3.12. A name on PATH may be a shim of nothing: try it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c 'import venv' >/dev/null 2>&1 && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q
# A CPU build of torch, for those who work on the code. `make talk` needs no torch.
TORCH ?= torch==2.13.0
PYTEST := $(BIN)/pytest -q -n 2

.PHONY: talk test quick dev lint types unit golden integration triton faults faults-short soak wheel deploy-test eval docs clean

talk: $(VENV)/.talk
	$(BIN)/duologue say examples/dialogue.txt -o talk.wav

test: lint types unit golden integration triton faults-short wheel

quick: lint types
	$(PYTEST) -m "not slow" tests/unit tests/architecture

dev: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(PYTEST) tests/unit tests/architecture
	$(BIN)/pytest -q --doctest-modules --pyargs duologue.runtime.text duologue.runtime.lm \
		duologue.runtime.gateway

golden: $(VENV)/.dev
	$(PYTEST) tests/golden

integration: $(VENV)/.dev
	$(PYTEST) tests/integration tests/deploy

triton: $(VENV)/.dev
	$(BIN)/pytest -q -m triton tests/triton

# Hurts servers of its own, and ends with a table of what was held to which bound.
faults: $(VENV)/.dev
	$(BIN)/pytest -q -m faults tests/faults

faults-short: $(VENV)/.dev
	$(BIN)/pytest -q -m "faults and short" tests/faults

soak: $(VENV)/.dev
	$(BIN)/python tests/faults/soak.py --minutes 10 --streams 32

# The whole AutoDL deployment with real packages; minutes, and a network for the packing.
deploy-test: $(VENV)/.dev
	.ci/check_autodl.sh

# All that is promised of the default voice, measured with espeak-ng's help; writes it into its card.
eval: $(VENV)/.dev
	$(BIN)/duologue train eval --bundle default --out out/eval --card models/default $(EVAL)

wheel: $(VENV)/.dev
	$(BIN)/python .ci/check_wheel.py

# The manual, into build/site; a broken link is an error.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist talk.wav *.egg-info

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3 with venv found: install python3 and python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.talk: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) '$(TORCH)' -e '.[dev]'
	@touch $@ $(VENV)/.talk
