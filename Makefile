# Two commands for a new user: `make demo` and `make test`. Each sets up all that it needs first.
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test check clients bench fuzz conformance types setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   start a cluster and show what it does (leaves it running)"
	@echo "make test   run the tests"
	@echo "make check  lint, types, import law, tests"
	@echo "make bench  run the benchmarks and rewrite docs/benchmarks.md"
	@echo "make fuzz   feed every parser with what coverage suggests (SECONDS=60 each); findings are in .fuzz/"
	@echo "make conformance  run Kubernetes' own conformance tests (as root; needs Go, gcc, debootstrap) and rewrite docs/conformance.md"
	@echo "make types  rebuild the protobuf data from Kubernetes' field numbers and Go types (once per Kubernetes release)"

# System packages are checked and changed modules compiled on every run (milliseconds); Python packages are installed only
# when pyproject.toml changed.
setup: $(VENV)/.installed
	@$(PY) -m compileall -q src
$(VENV)/.installed: pyproject.toml
	@scripts/setup base
	@test -x $(PY) || $$(scripts/python) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup
	@scripts/setup demo
	@$(PY) examples/demo.py

# Client libraries for tests/clients; without them those tests are skipped and say so.
clients: $(VENV)/.clients
$(VENV)/.clients: pyproject.toml | setup
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[clients]' \
		|| echo "make: the client libraries could not be installed; their tests will be skipped"
	@touch $@

test: setup clients
	@scripts/setup test
	@$(PY) -m pytest

check: setup clients
	@scripts/setup test
	$(VENV)/bin/ruff format --check src tests bench examples tools
	$(VENV)/bin/ruff check src tests bench examples tools
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest

bench: setup
	@scripts/setup bench
	$(PY) -m bench --all --write docs/benchmarks.md

# Apart from the rest: atheris needs a Python and a compiler that it knows, and nothing else here needs it.
fuzz: setup
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@$(PY) tests/fuzz all --seconds $(or $(SECONDS),60)

conformance: setup
	@$(PY) -m tools.conformance --write docs/conformance.md

types: setup
	@test -n "$(FIELDS)" -a -n "$(MODULES)" || { echo "usage: make types FIELDS=protobuf-fields.json MODULES=dir-with-k8s.io-go-modules"; exit 2; }
	$(PY) -m jota.meta._pack_protobuf $(FIELDS) $(MODULES)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
