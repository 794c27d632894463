# Two commands for a fresh machine with Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo bench crash test test-unit test-cluster test-cluster-faults faults model simulate interleavings mutants lint
.PHONY: cluster-up cluster-shell cluster-down clean

# The Ising chain on this machine, in an environment of its own; ends with a table of results and a figure.
demo:
	@ci/venv .demo/venv '.[plot]'
	@rm -rf .demo/ising
	@PATH="$$PWD/.demo/venv/bin:$$PATH" examples/ising/demo.sh .demo/ising

# Everything that can be run here; the last lines say what was not.
test: $(BIN)/.ready
	@ci/test $(BIN)/python

# Those of them that need no container engine: all but the real cluster.
test-unit: $(BIN)/.ready
	@ci/test --unit-only $(BIN)/python

# The tests on a real Slurm in containers; fails, not skips, without a container engine.
test-cluster: $(BIN)/.ready
	@ci/test --cluster-only $(BIN)/python

# The same, and the long ones: slurmctld frozen and killed, nodes lost, disks full, accounting gone, thousands of tasks.
test-cluster-faults: $(BIN)/.ready
	@ESIS_CLUSTER_FAULTS=1 ci/test --cluster-only $(BIN)/python

# Every kill point and every file system error in run, resubmit and dependency, counted; ends with the table.
faults: $(BIN)/.ready
	@ci/faults $(BIN)/python

# Every disk that a power cut may leave in the middle of a command; 17 minutes on two cores. COMMANDS="run compact": these.
crash: $(BIN)/.ready
	@ci/test-programs
	@$(BIN)/python -m tests.crash_states --workers 2 $(addprefix --command ,$(COMMANDS))

# The protocol of submission as a model: all its states, and mutations that have to break it; two minutes, needs spin.
model: $(BIN)/.ready
	@ci/test-programs
	@$(BIN)/python -m tests.model_check.check

# Random worlds with a seed, WORLDS=10000 of them from SEED=1 on: kills, lost answers, crashes, requeues, several hosts.
simulate: $(BIN)/.ready
	@$(BIN)/python -m tests.simulation $(if $(WORLDS),--worlds $(WORLDS)) $(if $(SEED),--seed $(SEED)) $(if $(OLD),--old $(OLD)) $(if $(CHAINS),--chains $(CHAINS)) $(if $(FEEDS),--feeds $(FEEDS))

# One command held at each of its steps while another one runs; hours. FIRST=compact SECOND=resubmit: these.
interleavings: $(BIN)/.ready
	@$(BIN)/python -m tests.interleavings $(if $(FIRST),--first "$(FIRST)") $(if $(SECOND),--second "$(SECOND)") $(ARGUMENTS)

# The product broken in one place at a time, and whether the tests notice; hours. MODULE=esis/locks.py: of that one.
# SESSION=file keeps the results and goes on with them; ARGUMENTS="--every 10": a sample.
mutants: $(BIN)/.mutants
	@$(BIN)/python -m tests.mutants $(addprefix --module ,$(MODULE)) $(if $(SESSION),--session $(SESSION)) $(ARGUMENTS)

# What ESIS costs, as one table of ratios; about six minutes on a quiet machine. PARTS="run status": only these.
bench: $(BIN)/.ready
	@$(BIN)/python -m tests.bench $(PARTS)

lint: $(BIN)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

cluster-up cluster-shell cluster-down: cluster-%: $(BIN)/.ready
	@ci/container-engine
	@$(BIN)/python -m tests.cluster $*

$(BIN)/.ready: pyproject.toml ci/venv ci/crate-validator
	@ci/venv $(VENV) -e '.[archive,dev,cluster]'
	@ci/crate-validator $(VENV)/crate $(BIN)/python
	@touch $@

$(BIN)/.mutants: $(BIN)/.ready
	@ci/venv $(VENV) -e '.[mutants]'
	@touch $@

clean:
	rm -rf .demo .bench $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
