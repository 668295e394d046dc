# Two targets set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

$(BIN)/dbsn: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,heic,plot,raw,zarr]'
	@touch $@

demo: $(BIN)/dbsn
	$(BIN)/python benchmarks/demo.py demo

test: $(BIN)/dbsn
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

clean:
	rm -rf .venv demo runs
