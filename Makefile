# petseg: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# Threads that wait spin for a moment only: as fast on an idle machine, and not many times slower on a busy one.
export GOMP_SPINCOUNT ?= 3000

# Types of the page's JavaScript, which stand in its comments.
TYPES := $(BIN)/node node_modules/typescript/bin/tsc --project .
# Which part may import which, spelling, that the notebooks ran from top to bottom, and these types: seconds.
CHECKS := $(BIN)/lint-imports && $(BIN)/codespell && $(BIN)/python -m tools.check_notebooks && $(TYPES)

.DEFAULT_GOAL := help
.PHONY: help setup reports test test-long test-reports fuzz kills rehearsal notebooks tables demo lint lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv/ and node_modules/ with every pinned package (once; the other commands do it when needed)

# The stamp is newer than what it was made from, so a changed lock sets up again.
$(READY): requirements.lock pyproject.toml package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "petseg needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm ci --silent || \
	  echo "npm's packages could not be had: reports leave out the page that needs no server."
	@touch $(READY)

reports: $(READY)  ## run all notebooks on the embedded pictures; reports/sample/index.html
	$(BIN)/petseg report

test: $(READY)  ## run all checks and tests but the long ones, the notebooks' among them
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(CHECKS)
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not long"
	PETSEG_STUDY=smoke $(BIN)/python -m pytest --nbval notebooks

test-long: $(READY)  ## run the tests that take half a minute or longer each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -m long

test-reports: $(READY)  ## run the notebooks on the embedded pictures again, and compare the table with the committed one
	PETSEG_STUDY=sample $(BIN)/python -m pytest --nbval notebooks
	PETSEG_STUDY=sample $(BIN)/python -m tools.compare_tables

fuzz: $(READY)  ## put 20,000 broken files of all kinds through what reads them (15 minutes)
	PETSEG_FUZZ=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto tests/test_fuzz.py

kills: $(READY)  ## kill each kind of work 50 times at random moments, and compare what it makes in the end (20 minutes)
	PETSEG_KILLS=50 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_kills.py

rehearsal: $(READY)  ## run the study on CLIP in small, with random weights in CLIP's place (minutes)
	$(BIN)/python -m tools.rehearse

notebooks: $(READY)  ## re-execute the committed notebooks in place, with their figures
	PETSEG_FIGURES=figures $(BIN)/petseg report --in-place

tables: $(READY)  ## make the README's numbers anew from the committed records
	$(BIN)/python -m tools.readme

demo: $(READY)  ## open the page that segments your own photos, on this machine only
	$(BIN)/petseg demo

lint: $(READY)  ## put code into the project's format, and check imports, spelling and notebooks
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(CHECKS)

lock:  ## pin the newest versions anew (needs uv); then run the tests
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest --upgrade \
	  --no-emit-index-url --generate-hashes --no-header --no-annotate --output-file requirements.lock

clean:  ## delete what runs made: checkpoints, caches, reports, drawn pictures
	rm -rf runs reports data/sample data/smoke
