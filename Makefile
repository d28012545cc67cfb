PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow test-gpu test-browser test-dft test-slurm soak fuzz check schema clean

# One Python environment for everything; a stamp file for each set of extras.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,dev]"
	touch $@

$(VENV)/.browser: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,browser]"
	touch $@

# GPAW is compiled: it needs a C compiler, libxc with headers and a BLAS (Debian: libxc-dev libopenblas-dev).
$(VENV)/.dft: $(VENV)/.test scripts/gpaw_siteconfig.py
	GPAW_CONFIG=$(CURDIR)/scripts/gpaw_siteconfig.py $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,dft]"
	touch $@

quickstart: $(VENV)/.run
	$(BIN)/ionsieve run configs/quickstart.yaml

# Tests marked `data` run too when IONSIEVE_DATA is set.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# The contract of every potential on CUDA; skipped where there is none. M3GNet's part needs IONSIEVE_DATA.
test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m gpu

# The report in headless Chromium: needs Debian's packages chromium and chromium-driver.
test-browser: $(VENV)/.browser
	$(BIN)/python -m pytest -m browser

# Real DFT on small crystals: about a minute on one core.
test-dft: $(VENV)/.dft
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m dft

# A real Slurm on this machine, whose nodes are processes here: needs root, and Debian's slurm-wlm and munge.
test-slurm: $(VENV)/.test
	@if [ ! -x /usr/sbin/slurmctld ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -o Acquire::Retries=3 update -qq && \
		apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends slurm-wlm munge >/dev/null; \
	fi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm

# Hours on two cores: a run killed a hundred times, an enumeration of millions killed in the middle (needs IONSIEVE_DATA).
soak: $(VENV)/.test
	$(BIN)/python -m scripts.soak_kills --kills 100 --folder runs/soak
	$(BIN)/python scripts/soak_enumeration.py

# Hostile configs, structures and tables: some minutes.
fuzz: $(VENV)/.test
	$(BIN)/python -m scripts.fuzz_inputs configs --count 10000
	$(BIN)/python -m scripts.fuzz_inputs structures --count 2000
	$(BIN)/python -m scripts.fuzz_inputs tables --count 1000

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/generate_schema.py --check

schema: $(VENV)/.run
	$(BIN)/python scripts/generate_schema.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
