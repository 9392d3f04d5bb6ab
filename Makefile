# Everything a developer, a visitor or a build server does with this repository.
#
#   make demo    set up the environment, start a sandbox, run commands on four nodes in waves, stop
#   make up      start a sandbox and leave it running (stop it with: .venv/bin/trunkline down)
#   make test    lint, types, layers, dependencies, then every test
#   make check   make test, and the formatting too: what must be green before a change lands
#   make compile build the relay's data path as an extension (see docs/operations.md), into build/compiled
#   make bench   measure the relay's data path against nginx on this machine (ten minutes)
#   make soak-revocation   revoke while 1,000 streams run, and kill the control plane 50 times; prints the figures
#   make soak-rotation   rotate authority and signing keys under load, with 50 agents, and print what failed (seven minutes)
#   make soak-restart   restart two relays behind one address 20 times under load, and print what failed (four minutes)
#   make soak-storm   kill a relay with 1,000 links three times, and print how they come back (a minute)
#   make soak    everything at once on a sandbox, with churn and rotations (ten minutes, or SOAK_MINUTES)
#   make soak-hostile      a thousand slow peers of each kind, and floods, beside one good caller (five minutes)
#   make soak-starved      a relay with 256 MiB, and with a tenth of a processor (as root, cgroup v1; one minute)
#   make soak-leaks        open, cancel and half-close 100,000 calls, and look what is left (two minutes)
#   make soak-mix-up       a canary in each of a million calls, with cancels and malicious nodes (three minutes and more)
#   make fuzz    fuzz what reads bytes of strangers, a minute for each target (FUZZ_SECONDS says how long)
#   make properties   try thousands of new examples of each property, on both builds (PROPERTY_EXAMPLES says how many)
#   make soak-exactly-once   lose replies and cut calls over 1,000 submits, and count what ran (two minutes)
#   make soak-output   print a gigabyte while daemons are killed ten times, and compare what the reader has
#   make soak-cancel   cancel a hundred commands by the command line, ask for health under a fork bomb, and print how long it took
#   make fmt     format the code
#   make lock    resolve the dependencies again and write requirements/*.lock

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := trunkline certs relay node_agent control_plane
SANDBOX := .trunkline
COMPILED := build/compiled
COLLECTED := build/collected
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
PROPERTY_EXAMPLES ?= 2000
SOAK_MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help demo up test tests check checks lint types layers dependencies types-aside pytest pytest-compiled pytest-compiled-aside compile bench soak-revocation soak-rotation soak-restart soak-cancel soak-exactly-once soak-output soak soak-hostile soak-starved soak-leaks soak-mix-up soak-storm fuzz properties fmt lock clean tools bench-tools

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

$(READY): requirements/dev.lock pyproject.toml deploy/development/environment.sh
	@sh deploy/development/environment.sh $(VENV)
	@touch $(READY)

demo: $(READY)
	@sh deploy/development/demo.sh $(BIN)/trunkline

up: $(READY)
	@$(BIN)/trunkline up --detach --state $(SANDBOX)

tools: $(READY)
	@sh deploy/development/tools.sh test

bench-tools: $(READY)
	@sh deploy/development/tools.sh bench

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports --no-cache

dependencies: $(READY)
	$(BIN)/deptry $(PACKAGES)

# Last on purpose: its summary is the last thing printed.
# Daemons and workers start hundreds of times, which is quicker where Python may keep what it has compiled.
pytest: $(READY) tools
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n auto $(PYTEST_ARGS)

$(COMPILED)/.ready: $(READY) deploy/development/compile.sh $(wildcard trunkline/*/*.py certs/*.py relay/*.py relay/*/*.py)
	@sh deploy/development/compile.sh $(BIN) $(COMPILED)
	@touch $@

compile: $(COMPILED)/.ready

# The data path's own tests once more, with the compiled modules in place of the Python files.
pytest-compiled: tools $(COMPILED)/.ready
	@sh deploy/development/test-compiled.sh $(BIN) $(COMPILED) -n logical $(PYTEST_ARGS)

# The same, all of whose words come together in its end.
pytest-compiled-aside: tools $(COMPILED)/.ready
	@sh deploy/development/test-compiled.sh $(BIN) $(COMPILED) -n logical $(PYTEST_ARGS) \
		> $(COMPILED)/tests.log 2>&1; status=$$?; cat $(COMPILED)/tests.log; exit $$status

# What pytest makes of each test's file is kept: else every worker makes it anew, all at the same time.
$(COLLECTED): $(READY) $(shell find tests -name '*.py')
	@mkdir -p $(@D)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --collect-only -qq -n 0 > $@.log || { cat $@.log; exit 1; }
	@touch $@

# What takes a second, or is wanted by all the rest; what each has to say comes together.
checks: $(READY) tools
	@$(MAKE) --no-print-directory --jobs --output-sync lint layers dependencies $(COLLECTED)

types-aside: $(READY)
	@mkdir -p $(dir $(COMPILED))
	@$(MAKE) --no-print-directory types > $(dir $(COMPILED))types.log 2>&1; \
		status=$$?; cat $(dir $(COMPILED))types.log; exit $$status

# Side by side too: end-to-end tests wait for daemons, and the processors have something to do meanwhile. What needs one
# processor, the types and the compiler, goes beside the first of them, and then the data path's tests do.
tests: $(READY) tools
	@$(MAKE) --no-print-directory --jobs=3 types-aside pytest-compiled-aside pytest

test: checks
	@$(MAKE) --no-print-directory tests

check: $(READY)
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory test

bench: bench-tools $(COMPILED)/.ready
	$(BIN)/python -m bench

soak-revocation: $(READY)
	TRUNKLINE_SOAK=1 $(BIN)/pytest -q -s tests/e2e/test_revocation.py tests/e2e/test_revocation_survives.py

soak-rotation: $(READY)
	$(BIN)/python -m bench.soak_rotation

soak-exactly-once: $(READY)
	TRUNKLINE_SUBMITS=1000 $(BIN)/pytest -q tests/e2e/test_exactly_once.py

soak-output: $(READY)
	TRUNKLINE_OUTPUT_MILLION_LINES=118 $(BIN)/pytest -q tests/e2e/test_output_whole.py

soak-cancel: $(READY)
	$(BIN)/python -m bench.soak_cancel

soak-restart: $(READY)
	@sh deploy/development/tools.sh soak
	$(BIN)/python -m bench.soak_restart

soak: $(READY)
	$(BIN)/python -m bench.soak $(SOAK_MINUTES)

soak-hostile soak-leaks soak-mix-up soak-starved soak-storm: soak-%: $(READY) $(COMPILED)/.ready
	$(BIN)/python -m bench.soak_$(subst -,_,$*)

fuzz: $(READY)
	@for target in codec request-head response-head body websocket shell-frames token session-pair; do \
		echo "== $$target"; \
		$(BIN)/python -m tests.fuzz.run $$target -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
			|| exit 1; \
	done

# What a test of a property looks at in `make test` is the same each time; this looks further.
properties: $(READY) $(COMPILED)/.ready
	TRUNKLINE_EXAMPLES=$(PROPERTY_EXAMPLES) $(BIN)/pytest -n auto -m hypothesis --hypothesis-profile=search --timeout=900
	TRUNKLINE_EXAMPLES=$(PROPERTY_EXAMPLES) sh deploy/development/test-compiled.sh $(BIN) $(COMPILED) -n auto \
		-m hypothesis --hypothesis-profile=search --timeout=900

fmt: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(READY)
	@sh deploy/development/lock.sh $(BIN)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
