# make demo       install, then run the demonstration: runs/demo/
# make test       the tests (about ten minutes)
# make test-all   the tests, the longer checks and test-oldest
# make test-oldest  the tests with the least versions that pyproject.toml allows, in .venv-oldest
# make bench      speeds, as ratios to a yardstick measured in the same run
# make lint       ruff and mypy

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
OLDEST = .venv-oldest
LEAST = import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
  print(*(r.replace(">=", "==") for r in project["dependencies"] + project["optional-dependencies"]["dev"]), sep="\n")

.PHONY: demo test test-all test-oldest bench lint install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "physcomp needs Python 3.11 or newer; name one: make PYTHON=python3.12 demo"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/physcomp demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m 'slow or not slow'
	$(MAKE) test-oldest

$(OLDEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(PYTHON) -c '$(LEAST)' > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt -e '.[dev]'
	touch $@

# What old packages say is deprecated in the new ones below them is not ours to mend; all other warnings are errors.
test-oldest: $(OLDEST)/.installed
	NUMBA_CACHE_DIR="$(CURDIR)/$(OLDEST)/numba" $(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning

bench: $(INSTALLED)
	$(BIN)/python -m simulations.bench

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
