# Three targets set everything up by themselves: `make demo`, `make test` and `make docs`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs check clean

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

# The site in build/site; `python -m http.server -d build/site` shows it, with its search.
docs: $(BIN)/mkdocs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(BIN)/mkdocs: $(BIN)/dbsn
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf .venv build demo runs
