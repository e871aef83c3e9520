# Everything a newcomer types. Each target sets itself up: a virtual environment, pinned and hash-checked requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PCSC := $(VENV)/.installed-pcsc

.PHONY: demo test check bench bench-lists soak clean lock

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# pyscard has no wheels: build it where the PC/SC headers are, do without desk readers where they are not. No stamp is
# left without them, so that the next make looks again.
$(PCSC): $(STAMP) requirements/pcsc.txt
	@if pkg-config --exists libpcsclite 2>/dev/null && command -v swig >/dev/null && command -v cc >/dev/null; \
	  then $(BIN)/pip install --quiet --require-hashes -r requirements/pcsc.txt && touch $@; \
	  else echo "PC/SC headers, swig or a C compiler not found: going on without desk readers (extra 'pcsc')"; fi

demo: $(PCSC)
	$(BIN)/backend-sync demo

test: $(PCSC)
	$(BIN)/pytest -n auto --dist loadgroup

check: $(PCSC)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy .ci/check_wheels.py
	$(BIN)/lint-imports

bench: $(PCSC)
	$(BIN)/python -m bench

bench-lists: $(PCSC)
	$(BIN)/python -m bench lists-dense lists-sparse lists-tickets

soak: $(PCSC)
	PILET_SOAK=1 $(BIN)/pytest -n auto --dist loadgroup -m "slow or hostile" --timeout 3600

clean:
	rm -rf $(VENV) build *.egg-info bench/out

# Re-pin. The files name versions and hashes; where they come from is the client's configuration.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade -o requirements/run.txt
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade -o requirements/dev.txt
	echo pyscard | uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade -o requirements/pcsc.txt
