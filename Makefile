# Two commands do all the set-up: `make demo` and `make test`. Both make the environment when it is not there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# warnings are errors, and so are links that lead nowhere
SPHINX := $(BIN)/sphinx-build -W --keep-going -n -q -b html docs site

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

.PHONY: demo test docs bench clean
demo: $(READY)  ## train on easy-VQA, score, report: runs/demo
	$(BIN)/polymodal demo --out runs/demo --overwrite

test: $(READY)  ## lint, types, documentation, tests
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(SPHINX)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

docs: $(READY)  ## build the documentation, with the generated reference, into site/
	$(SPHINX)
	@echo "open site/index.html"

bench: $(READY)  ## benchmarks; each prints ratios measured in one run
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) site runs
