# The commands of this project; .ci/run calls the same. `make demo` and `make test` need nothing done first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PORT = 9092

.PHONY: setup demo test check bench kafka clean

setup: $(STAMP)  ## build .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; this is $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## a simulated fleet with incidents in it, scored live; no broker
	$(BIN)/strayline demo

test: setup  ## every test, real Kafka included (needs Java 17 and Maven)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.bench  ## speed, detection and transport, beside their peers
	$(BIN)/python -m benchmarks

.venv/.bench: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

kafka: setup  ## a real single-node Kafka from Maven Central on localhost:9092 (or PORT=9093), in the foreground
	$(BIN)/python -m benchmarks.kafka --port $(PORT)

clean:
	rm -rf .venv .cache bench-out
