# Every target sets up what it needs by itself.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo demo-train test lint test-avx2 docs release-check clean

$(BIN)/dbsn: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[dev,docs,export,fits,heic,plot,raw,zarr]'
	@touch $@

demo: $(BIN)/dbsn
	$(BIN)/python benchmarks/demo.py demo

demo-train: $(BIN)/dbsn
	$(BIN)/python benchmarks/demo.py demo --train

# All that is checked; `make WORKERS=8 test` on more cores. Each file stays in one process, so that what its tests
# share is trained once, and what its tests time or measure is never beside another of them.
test: $(BIN)/dbsn
	$(MAKE) --jobs 2 lint docs
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
	$(MAKE) test-avx2

lint: $(BIN)/dbsn
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# The main paths as a processor without AVX-512 and fast bfloat16 takes them.
test-avx2: $(BIN)/dbsn
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest --numprocesses $(WORKERS) tests/e2e/test_main_paths.py

# The site in build/site; `python -m http.server -d build/site` shows it, with its search.
docs: $(BIN)/dbsn
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# What the release workflow does before it publishes `dist`.
release-check: $(BIN)/twine
	$(BIN)/python -m benchmarks.robustness.wheel --dist dist

$(BIN)/twine: $(BIN)/dbsn
	$(PIP) --editable '.[release]'
	@touch $@

clean:
	rm -rf .venv build demo dist runs
