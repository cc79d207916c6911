# Every target makes the environment it needs. PYTHON picks the interpreter:
#   PYTHON=python3.13 make test
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
WORKERS ?= 2

# The interpreter's version is in the stamp's name, so that another PYTHON makes it anew.
VERSION := $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
STAMP = $(VENV)/.installed-$(VERSION)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)

.PHONY: demo example test test-slow test-lowest test-newest test-library test-libraries mutants check docs bench scale clean
.DEFAULT_GOAL = test

demo: $(STAMP)-demo  ## trains eleven optimizers on MNIST-5k and reports: 5 minutes
	$(BIN)/python -m experiments demo

NAME ?= plain_jax
example: $(STAMP)-examples  ## make example NAME=linen_resnet: under a minute each
	$(BIN)/python -m examples.$(NAME)

test: $(STAMP)-dev  ## the fast suite and the doctests
	$(BIN)/python -m pytest -n $(WORKERS) --doctest-modules

test-slow: $(STAMP)-dev  ## timings, gigabytes, every method in the dear contracts: an hour, a quiet machine
	$(BIN)/python -m pytest -m slow

test-lowest test-newest: test-%:  ## the library's tests on the oldest, and the newest, jax and optax
	$(MAKE) test-library VENV=$(VENV)-$* CONSTRAINTS=constraints-$*.txt

test-libraries:  ## methods inside libraries that own the training loop
	$(MAKE) $(VENV)-libraries/.installed-$(VERSION)-libraries VENV=$(VENV)-libraries CONSTRAINTS=constraints-libraries.txt
	$(VENV)-libraries/bin/python -m pytest tests/libraries -m libraries

# Memory is that of the XLA of constraints.txt, older ones copy more; nnx.List came with flax 0.12; and
# line searches of optax 0.2.5 do not refuse unknown arguments.
test-lowest: export PYTEST_ADDOPTS = --ignore tests/test_cost.py \
  --deselect "tests/test_examples.py::test_the_loss_falls[nnx_vit]" \
  --deselect tests/test_line_searches.py::test_other_arguments_have_to_be_parameters_of_value_fn

test-library: $(STAMP)-library
	$(BIN)/python -m pytest -n $(WORKERS) --doctest-modules --ignore tests/experiments

mutants: $(STAMP)-mutants  ## 300 wrong lines in flatopt/, one at a time, that a test should notice: two hours
	$(BIN)/python -m tests.mutants

check: $(STAMP)-dev  ## ruff, pyright, who imports whom, and what the workflows trust
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

docs: $(STAMP)-docs  ## the site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)-bench  ## what every method costs, beside peers: 15 minutes, a quiet machine
	$(BIN)/python -m benchmarks

scale: $(STAMP)-bench  ## bytes and collectives of a Llama of 8 B params on 64 virtual devices
	$(BIN)/python -m benchmarks.scale

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest $(VENV)-libraries site runs

$(STAMP):
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip  # older ones know no dependency groups
	touch $@

$(STAMP)-%: $(STAMP) pyproject.toml $(CONSTRAINTS)
	@echo "installing what the group $* of pyproject.toml names into $(VENV): once, some minutes"
	$(INSTALL) -e . --group $*
	touch $@

.SECONDARY: $(STAMP)
