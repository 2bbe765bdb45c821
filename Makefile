# What a developer types. A fresh machine needs git, make and Python 3.10 or newer; all else is fetched, from the
# package index into .venv and .cache, and for `make test` from Debian when root runs it.
#
#   make demo    pack a real program and run it
#   make test    everything: lint, types, tests (PYTEST="-k word" narrows the tests, PYTEST="-n 0" has them one by one)
#   make apps    every program of tests/apps.toml against a venv; the tests take five of them
#   make torture everything of which the tests do a part: hours; each fuzzer ten minutes (FATPAR_FUZZ_SECONDS=N: N seconds)
#   make matrix  pack a program with compiled dependencies, run it on every host root and under two kernels
#   make lint    ruff and mypy
#   make bench   the figures of bench/README.md, on this machine
#   make build   launchers and data into packer/_data, from the sources as they are now
#   make setup   only the environment
#   make clean   forget what was built; .venv and .cache stay

# the first of these that is new enough and can make an environment; make PYTHON=... names another
PYTHONS = $(PYTHON) python3.13 python3.12 python3.11 python3.10 python3
VENV = .venv
BIN = $(VENV)/bin
PYTEST =
# As many at once as there are processors. What a file's tests share is made once: one process has them all. In the files'
# order, which has the long ones early.
AT_ONCE = --numprocesses=auto --dist=loadfile --no-loadscope-reorder
APT_INSTALL = apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends
# what tests use beside Python: C++ and Rust, sanitizers, fuzzers, host roots, fault injection, signatures, a machine that
# loses its power, another machine, a network filesystem that goes away, a reader of shell scripts, what pages look like
DEBIAN_PACKAGES = cargo chromium clang g++ gcc libc6-dev libclang-rt-dev libffi-dev libxslt1-dev libyaml-dev mmdebstrap \
	openssh-client openssh-sftp-server procps qemu-system-x86 qemu-user-static qemu-utils shellcheck \
	sshfs strace musl-tools xz-utils

.PHONY: help setup build demo matrix bench lint test apps torture hosts debian-packages clean

help:
	@sed -n 's/^#   //p' Makefile

# running is the only proof: a version manager puts names on PATH that it cannot run, and Debian's Python has no
# ensurepip without python3-venv
FIND_PYTHON = for python in $(PYTHONS); do \
		"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; \
		python=; \
	done

$(BIN)/python:
	@$(FIND_PYTHON); \
	if [ -z "$$python" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		$(APT_INSTALL) python3-venv; \
		$(FIND_PYTHON); \
	fi; \
	if [ -z "$$python" ]; then \
		echo "make: cannot make $(VENV): none of $(PYTHONS) is Python 3.10 or newer with venv and ensurepip" >&2; \
		echo "make: hint: apt-get install python3-venv, or make PYTHON=..." >&2; \
		exit 1; \
	fi; \
	"$$python" -m venv $(VENV)

# pip, not uv: it knows what build-system.requires and dependency groups say, and follows the user's pip settings
$(VENV)/ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --upgrade pip build
	$(BIN)/python -c 'import build; print(*build.ProjectBuilder(".").build_system_requires, sep="\n")' >$@.txt
	$(BIN)/python -m pip install -q --requirement $@.txt --group build --group test --group lint
	$(BIN)/python -m pip install -q --no-build-isolation --editable .
	touch $@

setup: $(VENV)/ready

# always asked: cmake and ninja know what is out of date
build: setup
	@PATH="$(abspath $(BIN)):$$PATH" cmake --log-level=WARNING -G Ninja -S . -B build -D Python_EXECUTABLE=$(abspath $(BIN))/python
	@$(BIN)/cmake --build build
	@$(BIN)/cmake --install build --prefix . >build/install.log

demo: build
	PATH="$(abspath $(BIN)):$$PATH" sh examples/demo/run.sh

matrix: build hosts
	PATH="$(abspath $(BIN)):$$PATH" sh examples/matrix/run.sh
	$(BIN)/python -m pytest -m torture tests/e2e/test_matrixrun.py $(PYTEST)

bench: build
	@$(BIN)/python -m pip install -q --group bench
	$(BIN)/python bench/size.py
	$(BIN)/python bench/launch.py
	$(BIN)/python bench/throng.py
	$(BIN)/python bench/hash.py
	$(BIN)/python bench/graft.py
	$(BIN)/python bench/carried.py
	$(BIN)/python bench/dropin.py

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

debian-packages:
	@missing=$$(for package in $(DEBIAN_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || echo $$package; \
	done); \
	if [ -z "$$missing" ]; then \
		:; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		$(APT_INSTALL) $$missing; \
	else \
		echo "make: some tests will be skipped; to run them: apt-get install" $$missing; \
	fi

hosts: setup debian-packages
	@if [ "$$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then \
		$(BIN)/python tests/hosts/build.py; \
	else \
		echo "make: tests in host roots will be skipped; to run them: make hosts as root, with mmdebstrap"; \
	fi

test: lint build hosts
	@if command -v cc >/dev/null; then $(BIN)/cmake --build build --target launcher-test; fi
	@if command -v clang >/dev/null; then $(BIN)/cmake --build build --target launcher-fuzz; fi
	$(BIN)/python -m pytest $(AT_ONCE) $(PYTEST)

apps: build hosts
	$(BIN)/python -m pytest -m apps tests/e2e/test_apps.py $(PYTEST)

torture: build hosts
	$(BIN)/cmake --build build --target launcher-test --target launcher-fuzz
	$(BIN)/python -m pytest -m torture -s $(PYTEST)

clean:
	rm -rf build packer/_data
