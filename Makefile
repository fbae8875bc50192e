# One command each. All of them may be repeated; what is up to date is not done again.
.PHONY: help setup native test test-svm check rust-check python-check rust-test python-test conformance conformance-opencl soak demo bench bundle clean
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
GUEST_TARGET := x86_64-unknown-none
# Crates that are linted for the guest's target; all are tested on the host.
GUEST_CRATES := $(patsubst guest/%/Cargo.toml,kasoku-%,$(wildcard guest/libos/Cargo.toml))
PYTHON_FOLDERS := $(wildcard kasoku tools tests benchmarks examples guest/runner/python)
TYPED_FOLDERS := $(wildcard kasoku tools tests benchmarks guest/runner/python)

help:
	@echo 'make setup   a virtual environment in $(VENV) with the kasoku command in it'
	@echo 'make demo    two accelerated functions, deployed and invoked'
	@echo 'make test    checks, then all tests'
	@echo 'make test-svm  guests on kvm_amd in a machine that QEMU emulates (needs qemu-system-x86 and Debian)'
	@echo 'make check   formats, lints and types'
	@echo 'make conformance   CPython'"'"'s own test suite in guests, and what fails there natively (half an hour)'
	@echo 'make conformance-opencl SUITE=PATH   an OpenCL test suite, on this machine and in a guest'
	@echo 'make soak    a load of half an hour, after which memory and descriptors are what they were'
	@echo 'make bench   all benchmarks, into benchmarks/results/'
	@echo 'make bundle  binaries, tests and benchmarks in one file, for a machine with a GPU and without a network'
	@echo 'make clean   removes what was built'

# The environment follows pyproject.toml; the native part follows cargo's own idea of what is out of date.
setup: $(VENV)/.installed native

$(VENV)/.installed: pyproject.toml
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or newer with the venv module was found (Debian: python3-venv); name one with make PYTHON=...' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'error: cargo was not found: install Rust 1.88 or newer with rustup' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,dev]'
	@touch $@

native: $(VENV)/.installed
	@$(BIN)/python tools/native.py --bin $(BIN)

check: setup rust-check python-check

rust-check: $(VENV)/.installed
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace $(addprefix --exclude ,$(GUEST_CRATES)) --all-targets -- -D warnings
	$(if $(GUEST_CRATES),cargo clippy --quiet --locked $(addprefix -p ,$(GUEST_CRATES)) --target $(GUEST_TARGET) -- -D warnings)

python-check: $(VENV)/.installed
	$(BIN)/ruff format --quiet --check $(PYTHON_FOLDERS)
	$(BIN)/ruff check --quiet $(PYTHON_FOLDERS)
	$(BIN)/mypy $(TYPED_FOLDERS)

test: check rust-test python-test

# Tests of the broker run on the system's OpenCL implementations and on those named here.
rust-test: native
	KASOKU_OPENCL_RUNTIMES='$(abspath $(VENV)/lib)' cargo test --quiet --locked --workspace --no-fail-fast

python-test: setup
	$(BIN)/python -m pytest -n auto --ignore=tests/svm

# The semantics of hardware KVM, which the machine's own may not have. Needs neither root nor /dev/kvm.
test-svm: setup
	$(BIN)/python -m tests.svm.kernel
	KASOKU_REQUIRE_SVM=1 $(BIN)/python -m pytest tests/svm

# A load of half an hour: memory and descriptors stay flat. A minute of it is in `make test`.
soak: setup
	$(BIN)/python -m pytest tests/chaos/test_soak.py --soak 1800

# Goes on where it ended when it is interrupted; a new commit begins anew.
conformance: setup
	mkdir -p build
	$(BIN)/python -m tests.conformance.cpython --write --state build/conformance-$$(git rev-parse --short HEAD).jsonl

# Somebody else's OpenCL suite that lies at SUITE, natively and in a guest; SUITE_PYTHON has what the suite needs.
conformance-opencl: setup
	@test -n '$(SUITE)' || { echo 'error: say which suite, a directory that pytest runs: make conformance-opencl SUITE=PATH' >&2; exit 1; }
	$(BIN)/python -m tests.opencl.suite $(if $(SUITE_PYTHON),--python '$(SUITE_PYTHON)') '$(SUITE)'

demo: setup
	$(BIN)/python examples/demo.py

bench: setup
	$(BIN)/python benchmarks/all.py

# Runs elsewhere by `python3 kasoku-bundle/run.py`; BUNDLE_PYTHON is the Python of that machine.
BUNDLE_PYTHON ?= 3.12
bundle: setup
	$(BIN)/python -m tools.bundle --python $(BUNDLE_PYTHON)

clean:
	rm -rf target build dist kasoku/_native $(VENV)
