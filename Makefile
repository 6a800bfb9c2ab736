# Every target sets up what it needs in .venv; nothing has to be installed by hand but Python 3.11+, make and git.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check install --quiet -c constraints.txt
WORKERS ?= 2

# Threads of BLAS, OpenMP and polars bring nothing on small arrays and cost much among busy neighbours.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export POLARS_MAX_THREADS := 1

.PHONY: help demo test test-slow lint typecheck format bench bench-quick train train-durations train-load train-published protocol docs dist warm clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/.run: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) …"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP) torch
	@$(PIP) -e '.[dev,train,postgres]'
	@touch $@

warm: $(VENV)/.run
	@$(RUN) -m shunter.scheduler.compiled
	@$(RUN) -m shunter.sim.rollout

demo: $(VENV)/.run ## Compare scheduling policies on two built-in workloads; writes demo-report/
	$(RUN) -m shunter demo --out demo-report

test: $(VENV)/.dev ## Run the fast tests on WORKERS processes
	$(RUN) -m pytest -n $(WORKERS) --dist loadscope -m "not slow" -q

test-slow: $(VENV)/.dev ## Run the slow tests: whole logs under every backfilling, new random examples
	$(RUN) -m pytest -n $(WORKERS) -m slow -q
	EXPLORE=1 $(RUN) -m pytest -n $(WORKERS) -q tests/properties

lint: $(VENV)/.dev ## Check format, style and the import rules
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) scripts/build_protocol.py --check

typecheck: $(VENV)/.dev ## Check types strictly
	$(VENV)/bin/mypy -p shunter

format: $(VENV)/.dev ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.dev warm ## Measure speed and memory; JSON in benchmarks/latest.json
	$(RUN) -m benchmarks.run --out benchmarks/latest.json

bench-quick: $(VENV)/.dev warm ## The same on small traces, in a minute
	$(RUN) -m benchmarks.run --quick

train: $(VENV)/.dev warm ## Train the policy that ships, from ../shared/traces/swf; writes trained/, a quarter of an hour
	$(RUN) scripts/train_shipped.py

train-durations: $(VENV)/.dev warm ## Train and judge the predictor of run times that ships, from ../shared/traces; a quarter of an hour
	$(RUN) scripts/train_durations.py

train-load: $(VENV)/.dev warm ## Train and judge the forecaster of load that ships, from ../shared/traces; half an hour
	$(RUN) scripts/train_load.py

train-published: $(VENV)/.dev warm ## Train and judge under the published protocol, from ../shared/traces/swf; writes published/
	$(RUN) scripts/train_published.py --workers $(WORKERS)

protocol: $(VENV)/.dev ## Generate daemon/pb from daemon/proto
	$(RUN) scripts/build_protocol.py

docs: $(VENV)/.dev ## Make the pictures of the README and check the links of the documentation
	$(RUN) -m docs.build

dist: $(VENV)/.dev ## Build the source distribution and the wheel
	rm -rf build dist
	$(RUN) -m build

clean: ## Remove everything that can be made again
	rm -rf $(VENV) build dist demo-report *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
