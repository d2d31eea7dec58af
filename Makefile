# Etude. On a fresh machine with Python 3.11 or newer: `make demo`, `make test`.
#
#   PYTHON=python3.12      the Python that .venv is made with
#   TORCH_INDEX=URL        a package index for torch alone; https://download.pytorch.org/whl/cpu has the small CPU build
#   JOBS=2                 test processes at once (default: one a core, 8 at most)
#
# All paths are relative, so the checkout may stand in a folder with spaces in its name.

PYTHON ?= python3
TORCH_INDEX ?=
JOBS ?= auto

PY := .venv/bin/python
# Without --no-compile pip writes 85 MB of bytecode, most of which is never read; Python compiles what it imports.
PIP := -m pip install --quiet --no-compile --disable-pip-version-check
# One thread a process: equal bit for bit, and two test processes do not fight over two cores.
TEST := OMP_NUM_THREADS=1 $(PY) -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-browser test-kill check oracles benchmarks clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: .venv/core  ## train two small models, compress them, and write the report; its path is the last line
	@.venv/bin/etude run progress-report --preset quick

test: .venv/dev  ## the tests (at most 10 minutes on 2 cores)
	@$(TEST) -n $(JOBS) --maxprocesses 8 --dist loadfile

test-slow: .venv/dev  ## the tests that take long
	@$(TEST) -m "slow and not browser and not kill"

test-browser: .venv/dev  ## reports in headless Chromium, with networking off
	@$(TEST) -m browser

test-kill: .venv/dev  ## work that is killed and goes on
	@$(TEST) -m kill -n $(JOBS) --maxprocesses 4 --dist loadgroup

check: .venv/dev  ## ruff (lint and format) and pyright
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

oracles: .venv-oracles/made .venv-saelens/made .venv-lm-eval/made  ## write the fixtures that compare Etude with transformers, TransformerLens, SAELens and lm-eval
	PYTHONPATH=src .venv-oracles/bin/python tests/oracles/make_fixtures.py
	.venv-oracles/bin/python tests/oracles/make_ecosystem.py
	.venv-saelens/bin/python tests/oracles/make_saelens.py
	OMP_NUM_THREADS=1 .venv-lm-eval/bin/python tests/oracles/make_lm_eval.py

benchmarks: .venv/dev  ## print the ratios that the documents quote
	@for script in $(filter-out %_peer.py,$(wildcard benchmarks/*.py)); do echo "== $$script" && $(PY) "$$script" || exit 1; done

clean:  ## remove the environments and caches, not the runs
	rm -rf .venv .venv-oracles .venv-saelens .venv-lm-eval .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is newer than what it was made from, or it is made again.

.venv/made:
	@command -v $(PYTHON) > /dev/null || { echo "no $(PYTHON) here: name a Python, as in make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 14) else "$(PYTHON) is Python " + v + ", and the pinned torch needs 3.11 to 3.14: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/core: .venv/made pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(PY) $(PIP) -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	$(PY) $(PIP) -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/core
	$(PY) $(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

.venv-oracles/made: Makefile constraints.txt
	$(PYTHON) -m venv --clear .venv-oracles
	$(if $(TORCH_INDEX),.venv-oracles/bin/python $(PIP) -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	.venv-oracles/bin/python $(PIP) -c constraints.txt torch transformers==5.23.0 transformer-lens==4.3.0
	@touch $@

# Apart from the others: it asks for another TransformerLens.
.venv-saelens/made: Makefile constraints.txt
	$(PYTHON) -m venv --clear .venv-saelens
	$(if $(TORCH_INDEX),.venv-saelens/bin/python $(PIP) -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	.venv-saelens/bin/python $(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt) sae-lens==6.54.12
	@touch $@

# With Etude and pytest, so that tests/oracles/test_lm_eval.py runs in it too, and benchmarks/evaluating.py.
.venv-lm-eval/made: Makefile constraints.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-lm-eval
	$(if $(TORCH_INDEX),.venv-lm-eval/bin/python $(PIP) -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	.venv-lm-eval/bin/python $(PIP) -c constraints.txt -e . 'lm-eval[hf]==0.4.13' transformers==5.23.0 pytest pytest-xdist beartype
	@touch $@
