# busctl: `make` alone says what there is. Everything sets up first what is missing (see .ci/setup).
#   ARGS="..." goes to the program behind a target: make test ARGS="-k tail", make demo ARGS="--rate 50"
#   make test ON=4.3 (or 4.0) runs the tests that need a broker on that RabbitMQ, in a root directory (.ci/rabbitmq4-root)

BIN := .venv/bin
ARGS ?=
ON ?=
# Many programs run in one run of the tests: none should compile again what the one before compiled, even where
# the machine's setting is that Python keeps nothing.
export PYTHONDONTWRITEBYTECODE :=
# Test processes side by side, each with a RabbitMQ of its own: most tests wait for a broker, not for a core.
WORKERS ?= 4
COMPILED := tests/__pycache__/.all

# Runs a check without a word when it passes, and shows everything when it does not.
define quietly
	@printf '%-36s' '$(1)'; if said=$$($(2) 2>&1); then echo ok; else echo failed; echo "$$said"; exit 1; fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test tests lint compiled faults bench screenshots docs fmt

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: setup ## start a private RabbitMQ with a live trading bus, open the console
	@$(BIN)/busctl demo $(ARGS)

test: setup ## lint, types, layers and all tests, on a private RabbitMQ
ifeq ($(ON),)
	@$(MAKE) --no-print-directory -j 2 lint tests
else
	@root=$$(.ci/rabbitmq4-root $(ON)) && \
		BUSCTL_TEST_RABBITMQ_ROOT=$$root $(MAKE) --no-print-directory tests SCOPE=--broker-only
endif

tests: compiled
	@.ci/programs
	@.ci/proton
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not faults' $(SCOPE) $(ARGS)

faults: setup ## the long fault tests, on the installed RabbitMQ and on 4.3
	@.ci/faults $(ARGS)

bench: setup ## measure the library side by side with its peers
	@$(BIN)/python -c 'import aio_pika, amqpstorm, kombu' 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[bench]'
	@$(BIN)/python benchmarks/run.py $(ARGS)

screenshots: setup ## draw the console's screens into screenshots/
	@$(BIN)/python screenshots/make.py $(ARGS)

docs: setup ## write the reference of all commands from the program
	@$(BIN)/python docs/make.py

fmt: setup ## format the code, repair what the linter can
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

lint: setup
	$(call quietly,lint (ruff check),$(BIN)/ruff check --output-format concise .)
	$(call quietly,format (ruff format --check),$(BIN)/ruff format --check .)
	$(call quietly,types (mypy --strict),$(BIN)/mypy)
	$(call quietly,layers (import-linter),$(BIN)/lint-imports --no-logo --no-cache)

# One process compiles the tests when one of them is new, so that not each of the workers does.
compiled: $(COMPILED)
$(COMPILED): $(wildcard tests/*.py tests/*/*.py) | setup
	@said=$$($(BIN)/pytest --collect-only -q 2>&1) || { echo "$$said"; exit 1; }
	@mkdir -p $(@D) && touch $@

setup:
	@.ci/setup
