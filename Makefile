# Set-up, the main job and the tests. `make help` lists the targets.
VENV ?= .venv
LOCK ?= requirements/lock.txt
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# A path or URL of detectron2's sources; the pinned redistribution is installed when it is empty
# and no detectron2 is there yet.
DETECTRON2 ?=
# What `make demo` compares, and with which seeds; or data of your own, a file in COCO's format and
# its folder of images.
DATA ?= digits
MODEL ?= retinanet
SEEDS ?= 1
JSON ?=
IMAGES ?=
OUTPUT ?= output/demo/$(if $(JSON),own,$(DATA))_$(MODEL)
# What stock is compared with, a name of docs/poolings.md: softpool (the authors', and the one that
# docs/findings.md found nearest to stock), or another one alone: lip, s3, ...
POOL ?= softpool
# Trainings at a time: these small ones gain little from a second thread.
WORKERS ?= 3
# Where `make wheel` puts its files, and what `make test-wheel` tests them with.
DIST ?= dist
TORCH ?= 2.13.0
TEST_PYTHON ?= $(BIN)/python
# A process a core with one thread each, for threads of many processes wait for each other, and files whole,
# for their tests share trainings and builds; in their order, for the longest have the fewest tests. Four,
# for each takes 1 to 2 GB.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
ONE_THREAD = exec env OMP_NUM_THREADS=1
# What libraries say of their own future is not for here. By exec the program is make's own child,
# to which make hands SIGTERM on: a shell between them would end alone.
QUIET = exec env PYTHONWARNINGS=ignore::UserWarning,ignore::DeprecationWarning,ignore::FutureWarning
# Measured with several seeds, where it was.
KNOWN_SPREAD = $(if $(filter softpool,$(POOL)),benchmarks/results/demo_$(DATA)_$(MODEL).json)
DEMOS = $(patsubst configs/demo/%_R_18_FPN.yaml,%,$(filter-out %_softpool_R_18_FPN.yaml,$(wildcard configs/demo/*.yaml)))
# The arms beside stock. All values of POOL share the stock run and its folder.
SOFTPOOL_CONFIG = configs/demo/$(DATA)_$(MODEL)_softpool_R_18_FPN.yaml
SOFTPOOL_3X3 = MODEL.STEM_POOL.KERNEL_SIZE 3 MODEL.STEM_POOL.PADDING 1 MODEL.STEM_POOL.CEIL_MODE False \
    MODEL.STEM_POOL.BETA 4.0 MODEL.STEM_POOL.GRADIENT exact
ARMS_softpool = --arm SoftPool $(SOFTPOOL_CONFIG) --arm 'SoftPool 3x3 beta 4' $(SOFTPOOL_CONFIG) $(SOFTPOOL_3X3)
ARMS = $(or $(ARMS_$(POOL)),--arm $(POOL) $(SOFTPOOL_CONFIG) MODEL.STEM_POOL.NAME $(POOL))

# The project is for Linux alone, as pyproject.toml says.
BIN := $(VENV)/bin
UV := $(BIN)/uv --quiet --no-progress
# Else every process compiles torch, sympy and the others again where Python writes no bytecode
# (PYTHONDONTWRITEBYTECODE, as in many containers): 13 CPU-seconds a start instead of 5.
export UV_COMPILE_BYTECODE := 1
UV_PIP := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip

.DELETE_ON_ERROR:
# Asked for by name: done whatever is there.
ifneq ($(DETECTRON2),)
.PHONY: $(VENV)/.detectron2.stamp
endif
ifneq ($(FORCE_CUDA),)
.PHONY: $(VENV)/.extension.stamp
endif
.PHONY: help setup demo bench bench-detector bench-compare browser lock audit licenses test test-hosts test-slow test-chaos wheel test-wheel sanitize fuzz neon lint format docs figures clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/.extension.stamp  ## the environment in $(VENV); quiet when nothing is to do

$(VENV)/.uv.stamp: requirements/uv.txt
	@echo "set-up 1/4: virtual environment"
	@$(PYTHON) -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit( \
	    "error: the locked packages are for Python 3.11, $(PYTHON) is another: set PYTHON=...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.packages.stamp: $(LOCK) $(VENV)/.uv.stamp
	@echo "set-up 2/4: locked packages (torch with CUDA: about 3 GB the first time)"
	@$(UV_PIP) install --require-hashes --build-constraints $< -r $<
	@touch $@

$(VENV)/.detectron2.stamp: requirements/detectron2.txt $(VENV)/.packages.stamp
	@echo "set-up 3/4: detectron2"
	@$(BIN)/python requirements/install_detectron2.py --pinned $< --source "$(DETECTRON2)"
	@touch $@

$(VENV)/.extension.stamp: setup.py pyproject.toml $(wildcard csrc/*.* csrc/*/*) $(VENV)/.detectron2.stamp
	@echo "set-up 4/4: compiled operator"
	@$(BIN)/python -m pip --disable-pip-version-check install -v --no-build-isolation --no-deps \
	    --editable . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	@sed -n 's/^ *\(softpool_det: .*\)/\1/p' $(VENV)/build.log | sort -u
	@touch $@

demo: setup  ## stock and two SoftPools side by side (DATA=digits|trees MODEL=retinanet|mask_rcnn SEEDS="1 2" POOL=lip), or on your data (JSON=F IMAGES=D)
	@case '$(SEEDS)' in ''|*[!0-9\ ]*) \
	    echo "error: SEEDS must be whole numbers, such as \"1 2 3\", got $(SEEDS)"; exit 1;; esac
ifneq ($(JSON),)
	@test -n '$(IMAGES)' || { echo "error: JSON=... needs IMAGES=..., its folder of images"; exit 1; }
	@test '$(origin DATA) $(POOL)' = 'file softpool' || { \
	    echo "error: JSON=... takes no DATA and no POOL: it compares SoftPool on your data"; exit 1; }
	@case '$(MODEL)' in retinanet|mask_rcnn) ;; *) \
	    echo "error: MODEL must be retinanet or mask_rcnn, got $(MODEL)"; exit 1;; esac
	@$(QUIET) $(BIN)/python tools/compare.py --auto --train-json '$(JSON)' --train-images '$(IMAGES)' \
	    $(if $(filter mask_rcnn,$(MODEL)),--masks) --output '$(OUTPUT)' --seeds $(SEEDS)
else
	@test -z '$(IMAGES)' || { echo "error: IMAGES=... needs JSON=..., COCO's file about them"; exit 1; }
	@test -f configs/demo/$(DATA)_$(MODEL)_R_18_FPN.yaml || { echo "error: no demo for DATA=$(DATA)" \
	    "MODEL=$(MODEL); DATA_MODEL can be: $(DEMOS)"; exit 1; }
	@$(QUIET) $(BIN)/python tools/compare.py \
	    --output '$(OUTPUT)' \
	    --arm stock configs/demo/$(DATA)_$(MODEL)_R_18_FPN.yaml \
	    $(ARMS) \
	    --seeds $(SEEDS) --workers $(WORKERS) $(addprefix --known-spread ,$(wildcard $(KNOWN_SPREAD)))
endif

bench: setup  ## speed and memory of the pooling beside max pooling's, and the targets
	@$(QUIET) $(BIN)/python benchmarks/bench_pooling.py \
	    --json output/bench/pooling.json --plot output/bench/pooling.png

bench-detector: setup  ## speed and memory of stock and SoftPool detectors, and what the switches for speed give
	@$(QUIET) $(BIN)/python benchmarks/bench_detector.py --json output/bench/detector.json
	@$(QUIET) $(BIN)/python benchmarks/bench_detector.py --models retinanet --size 128x192 \
	    --seconds 40 --switches --json output/bench/switches.json

bench-compare: setup  ## speed and memory of the statistics on a pair of val2017's size
	@$(QUIET) $(BIN)/python benchmarks/bench_compare.py --json output/bench/compare.json

lock: $(VENV)/.uv.stamp  ## write requirements/lock.txt, hosts.txt, lint.txt, docs.txt and audit.txt again
	$(UV) pip compile pyproject.toml --extra detectron2 --extra compare --extra classification --extra dev \
	    --constraints requirements/constraints.txt \
	    --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
	    --output-file requirements/lock.txt
	$(UV) pip compile pyproject.toml requirements/hosts.in --extra detectron2 \
	    --constraints requirements/lock.txt --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' --output-file requirements/hosts.txt
	$(UV) pip compile requirements/lint.in --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' --output-file requirements/lint.txt
	$(UV) pip compile requirements/docs.in --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' --output-file requirements/docs.txt
	$(UV) pip compile requirements/audit.in --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' --output-file requirements/audit.txt

# Tools stay out of the project's own environment.
TOOLS = $(foreach name,audit docs lint,.venv-$(name)/.packages.stamp)
$(TOOLS): .venv-%/.packages.stamp: requirements/%.txt $(VENV)/.uv.stamp
	@$(UV) venv --clear --python $(BIN)/python .venv-$*
	@VIRTUAL_ENV=.venv-$* $(UV) pip install --require-hashes -r $<
	@touch $@

audit: .venv-audit/.packages.stamp  ## known vulnerabilities of the locked packages (asks OSV's service)
	@.venv-audit/bin/python tools/audit.py requirements/lock.txt requirements/hosts.txt \
	    requirements/lint.txt requirements/docs.txt requirements/audit.txt requirements/uv.txt \
	    requirements/detectron2.txt

# A section of docs/licenses.md: heading, environment, lock files that are installed in it.
LICENSES = printf '\n\#\# %s\n\n' $(1) && .venv-audit/bin/pip-licenses --python=$(2)/bin/python \
    --format=markdown --with-system --packages $$(sed -n 's/==.*//p' $(3:%=requirements/%.txt))

licenses: setup $(TOOLS)  ## write the tables of docs/licenses.md
	@$(MAKE) --no-print-directory .venv-hosts/.packages.stamp VENV=.venv-hosts LOCK=requirements/hosts.txt
	@{ sed '/^## /,$$d' docs/licenses.md | sed '$$d' && \
	    $(call LICENSES,'The project',.venv,lock detectron2 uv) && \
	    $(call LICENSES,'`make lint`',.venv-lint,lint) && \
	    $(call LICENSES,'`make docs`',.venv-docs,docs) && \
	    $(call LICENSES,'`make test-hosts`',.venv-hosts,hosts) && \
	    $(call LICENSES,'`make audit` and `make licenses`',.venv-audit,audit); \
	} >.venv-audit/licenses.md
	@mv .venv-audit/licenses.md docs/licenses.md

test: setup  ## all tests but the slow ones
	@for name in $$CHROMIUM chromium chromium-browser google-chrome; do \
	    command -v $$name >/dev/null && exit; done; \
	    echo "note: no Chromium, so the report's browser tests are skipped (make browser installs one)"
	@$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL)

test-hosts:  ## other libraries' detectors, in an environment of their own; every family of weights
	@$(MAKE) --no-print-directory setup VENV=.venv-hosts LOCK=requirements/hosts.txt
	@.venv-hosts/bin/python -m pytest -m "not chaos" tests/hosts tests/weights/test_families.py

browser:  ## Chromium for the report's tests: Debian's, unless one is installed (needs root)
	@requirements/install_chromium.sh

test-slow: setup  ## the slow tests, and the operator's random cases with more of them
	@$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL) -m slow
	@SOFTPOOL_EXAMPLES=1000 $(BIN)/python -m pytest tests/ops/test_soft_pool.py -k random_cases

test-chaos: setup  ## kills at random moments, and soaks
	@$(ONE_THREAD) $(BIN)/python -m pytest -m chaos tests/chaos

# The wheel is built from the sources in the sdist; torch's libraries stay torch's.
wheel: setup .venv-audit/.packages.stamp  ## an sdist and a manylinux wheel of it in $(DIST), for the CPU (FORCE_CUDA=1: and CUDA)
	@rm -rf build/wheel
	@FORCE_CUDA=$(or $(FORCE_CUDA),0) $(UV) build --python $(BIN)/python --no-build-isolation --out-dir build/wheel
	@PATH="$(CURDIR)/.venv-audit/bin:$$PATH" auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' \
	    --exclude 'libcudart*' --wheel-dir build/wheel/repaired build/wheel/*.whl
	@mkdir -p $(DIST)
	@mv build/wheel/*.tar.gz build/wheel/repaired/*.whl $(DIST)
	@ls $(DIST)

test-wheel: setup  ## the wheel's tests beside another torch (TORCH=2.13.0 TEST_PYTHON=...)
	@SOFTPOOL_WHEEL_TORCH="$(TORCH)" SOFTPOOL_WHEEL_PYTHON="$(TEST_PYTHON)" \
	    $(BIN)/python -m pytest -q -s -m slow tests/project/test_wheel.py

sanitize: setup  ## the operator's tests on the CPU under AddressSanitizer and UBSan
	@PYTHON=$(BIN)/python tools/sanitize.sh -q

fuzz: setup  ## the operator on the CPU under libFuzzer and sanitizers, 10 minutes each instruction set (needs Clang)
	@PYTHON=$(BIN)/python tools/fuzz.sh

neon:  ## the CPU kernels for aarch64 under qemu (needs Debian's g++-aarch64-linux-gnu and qemu-user)
	@tools/neon.sh

lint: .venv-lint/.packages.stamp  ## ruff, mypy, the layers of docs/architecture.md and the English of docs/style.md (needs no torch)
	@.venv-lint/bin/ruff check .
	@.venv-lint/bin/ruff format --check .
	@.venv-lint/bin/mypy
	@PYTHONPATH=. .venv-lint/bin/lint-imports --no-cache >.venv-lint/imports.log || \
	    { cat .venv-lint/imports.log; exit 1; }
	@.venv-lint/bin/python tools/prose.py

format: .venv-lint/.packages.stamp  ## what ruff can mend and format
	@.venv-lint/bin/ruff check --fix . ; .venv-lint/bin/ruff format .

docs: .venv-docs/.packages.stamp  ## the site, build/docs/index.html; a broken link fails it (needs no torch)
	@.venv-docs/bin/sphinx-build --quiet --fresh-env --fail-on-warning -c docs -d build/docs-cache . build/docs
	@echo build/docs/index.html

figures: setup  ## the pictures of docs/assets/ (report.png only after `make demo`, with Chromium)
	@$(QUIET) $(BIN)/python benchmarks/draw_figures.py --output docs/assets

clean:  ## remove the environment and what was built
	rm -rf $(VENV) .venv-hosts .venv-audit .venv-lint .venv-docs build softpool_det/*.so *.egg-info
