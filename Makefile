# The two commands a newcomer needs, and those of a contributor.  README.md says how to do without.
PYTHON ?= python3
VENV   ?= .venv
RUN    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
BIN    := $(VENV)/bin
# Threads that wait by spinning make a busy machine ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-slow lint format benchmark docs mutation release-check clean help

help:
	@echo "make demo       train, evaluate and report a certified network on digits (5 minutes)"
	@echo "make test       run the tests (10 minutes at most)"
	@echo "make test-slow  those that make test leaves out (15 minutes)"
	@echo "make lint       linters and type check"
	@echo "make format     rewrite the code as the linters want it"
	@echo "make benchmark  bounds beside power iteration and float32 (5 minutes)"
	@echo "make docs       tables of layers and models, and the reference in build/docs (5 minutes)"
	@echo "make mutation   test the tests of the trusted kernel (an hour)"
	@echo "make release-check  build the wheel, and use it outside of this directory (5 minutes)"

# An installed torch is seen from inside the environment, and kept if its version fits.
$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "lipnets needs Python 3.11 or later: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "Making the environment $(VENV) ..."; \
	  if $(PYTHON) -c 'import torch' 2>/dev/null; then shared=--system-site-packages; fi; \
	  $(PYTHON) -m venv $$shared $(VENV); }
	@echo "Installing lipnets and what it needs (a few minutes, once) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(BIN)/.installed
	$(BIN)/python train.py configs/digits/lipconvnet_aol.yaml --out $(RUN)
	$(BIN)/python evaluate.py $(RUN)

test: $(BIN)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(BIN)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

lint: $(BIN)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(BIN)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

benchmark: $(BIN)/.installed
	$(BIN)/python benchmarks/certificates.py

docs: $(BIN)/.installed docs/layers.md docs/models.md
	@$(BIN)/python -c 'import pdoc' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/python docs/reference.py

docs/layers.md: docs/zoo.py benchmarks/layers.json $(wildcard lipnets/layers/*.py lipnets/parametrizations/*.py)
	$(BIN)/python docs/zoo.py

docs/models.md: docs/models.py benchmarks/recipes.json $(wildcard lipnets/models/*.py)
	$(BIN)/python docs/models.py

mutation: $(BIN)/.installed
	$(BIN)/python tests/mutation.py

release-check:
	$(PYTHON) .ci/release_check.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
