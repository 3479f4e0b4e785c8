# What a developer types, and the only gate that CI calls. `make run` and `make test` work on a fresh Debian or Ubuntu with
# Rust: what else they need is installed by packaging/setup.sh, and only if it is missing. Debug builds everywhere but in
# `release` and `bench`.

# The interpreter of .venv (default: python3).
export PYTHON ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)
APPLIANCE := $(TARGET)/debug/appliance

REQUIREMENTS := examples/requirements.txt tests/requirements.txt packaging/venvs.sh packaging/pythons.sh
EXAMPLES := $(wildcard examples/*/appliance.toml)

.NOTPARALLEL:
.PHONY: help setup run build release test lint cargo-test arrow doc check-examples kit soak bench clean

help: ## what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

run: setup .venv/ready build ## serve examples/welcome on http://127.0.0.1:8080
	$(APPLIANCE) run --config examples/welcome/appliance.toml

build: setup ## build the binary and the engine library for development
	cargo build --workspace

release: setup ## the same as users run them: optimised, link-time optimisation (slow to build)
	cargo build --workspace --release

test: setup .venv/ready .venv-others.ready lint build cargo-test arrow doc check-examples kit ## all checks and tests

lint: setup ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

cargo-test: build .venv/ready .venv-others.ready $(TARGET)/browser.tried ## the tests in Rust, with the real binary
	@packaging/setup.sh strace uwsgi-core uwsgi-plugin-python3 # for tests/syscalls.rs, and for tests/harness/uwsgi.rs
	cargo test --workspace

arrow: ## which package may depend on which
	tests/arrow.sh

doc: setup ## the packages' documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

check-examples: build .venv/ready ## `appliance check` of each example
	@for file in $(EXAMPLES); do \
		echo "check $$file"; $(APPLIANCE) check --config $$file || exit 1; \
	done

kit: build .venv/ready .venv-others.ready ## the acceptance checks of tests/kit against the real binary
	.venv/bin/python tests/kit/run.py --binary $(APPLIANCE) --venv .venv
	@for venv in $(wildcard .venv-3.10 .venv-3.13); do \
		echo "$$venv"; \
		.venv/bin/python tests/kit/run.py --binary $(APPLIANCE) --venv $$venv --door proxy api || exit 1; \
	done

soak: build .venv/ready ## two minutes of reloads and of kills under 32 clients: what was lost, and p99
	cargo test --test appliance -- --ignored --nocapture --test-threads 1 soak::

bench: release ## CPU time for each request beside other servers (installs them)
	benches/setup.sh
	benches/.venv/bin/python benches/compare.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/fronts.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/asgi.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/native.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/beside.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/idle.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/api.py --binary $(TARGET)/release/appliance
	benches/.venv/bin/python benches/echoes.py --binary $(TARGET)/release/appliance

clean: ## remove the virtual environments; `cargo clean` removes what was built
	rm -rf .venv .venv-* benches/.venv benches/build

setup:
	@packaging/setup.sh

# For tests/websockets/browser.rs. Not every system has this package: then that test does nothing, and says so. Tried once.
$(TARGET)/browser.tried: | setup
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || packaging/setup.sh chromium-headless-shell \
		|| echo "NOT TESTED: WebSockets in a browser, because chromium-headless-shell cannot be installed here"
	@mkdir -p $(@D) && touch $@

.venv/ready: $(REQUIREMENTS) | setup
	packaging/venvs.sh default
	@touch $@

.venv-others.ready: $(REQUIREMENTS) | setup
	packaging/venvs.sh others
	@touch $@
