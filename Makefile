# The first target that you call sets up everything that a fresh Debian or Raspberry Pi OS lacks.
# `make demo` shows a whole shift in 40 seconds, `make test` runs the checks, `make help` lists all targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help demo deb quick test test-deb test-fresh test-kill test-card test-sdk test-dock test-fleet test-cluster test-hardware \
  test-tools sdk-tools cluster-tools bench bench-tools lint lock corpus screenshot clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml requirements-dev.lock requirements-films.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "bwc-agent needs Python 3.11 to 3.13; $$($(PYTHON) --version) came. Give another one with: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/need python3-venv
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) -r requirements-dev.lock -r requirements-films.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## a whole shift in 40 seconds, from provisioning to opened evidence
	$(BIN)/bwc-agent demo $(ARGS)

test-tools:
	@tools/need mosquitto=mosquitto mosquitto-clients=mosquitto_sub iproute2=ip strace=strace man-db=man \
	  'libfaketime=/usr/lib/*/faketime/libfaketime.so.1' espeak-ng=espeak-ng libasound2-data=/usr/share/alsa/alsa.conf

# As many tests side by side as there are processors; a file's tests stay together.
JOBS ?= $(shell nproc)
test: $(STAMP) test-tools lint ## lint, types and tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

quick: $(STAMP) ## the tests of what differs from main, or of one module (MODULE=agent/media/ring.py)
	$(BIN)/python -m tests.quick $(MODULE) $(ARGS)

test-fresh: $(STAMP) ## make demo and make test on minimal Debian 12 and 13, by a user with sudo and one without
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.fresh $(ARGS)

test-kill: $(STAMP) ## kill -9 a recording recorder at 200 random moments
	BWC_KILLS=200 $(BIN)/python -m pytest --timeout 3000 -o faulthandler_timeout=0 -s tests/kill $(ARGS)

test-card: $(STAMP) ## 50,000 altered cards: none makes a boot more permissive, no loss is silent
	$(BIN)/python -m tests.attacks.card_search --states 50000 --boots 100 $(ARGS)

test-sdk: $(STAMP) sdk-tools tests/sdk/node_modules/.package-lock.json ## segments opened by the Encryption SDKs for Python and JavaScript
	$(BIN)/python -m pytest tests/sdk $(ARGS)

sdk-tools:
	@tools/need nodejs=node npm=npm

tests/sdk/node_modules/.package-lock.json: tests/sdk/package.json tests/sdk/package-lock.json | sdk-tools
	npm ci --prefix tests/sdk --ignore-scripts --no-audit --no-fund --no-update-notifier
	@touch $@

deb: $(STAMP) ## the Debian package for a device, in dist/ (ARGS="--arch arm64 --python 3.11")
	@command -v dpkg-deb >/dev/null || { echo "make deb needs dpkg-deb, which every Debian has" >&2; exit 1; }
	$(BIN)/python packaging/build_deb.py $(ARGS)

# Bookworm's Python, whose package lintian of Debian 12 and 13 can read; overrides: packaging/debian/lintian-overrides.
test-deb: $(STAMP) ## build the Debian package and let lintian check it
	@tools/need lintian=lintian
	rm -rf build/deb
	$(BIN)/python packaging/build_deb.py --python 3.11 --out build/deb
	lintian --allow-root --fail-on error,warning build/deb/*.deb

test-dock: $(STAMP) test-tools ## 62 faults of every kind to one docking: cables, brokers, disks, clocks
	BWC_DOCK_FAULTS=62 $(BIN)/python -m pytest --timeout 900 -o faulthandler_timeout=0 -s tests/dock/test_run_of_faults.py $(ARGS)

test-fleet: $(STAMP) test-tools ## 1,500 simulated devices dock at one Mosquitto and one station
	$(BIN)/python -m pytest --timeout 900 -o faulthandler_timeout=0 -s tests/fleet $(ARGS)

test-cluster: $(STAMP) cluster-tools ## the same on three RabbitMQ nodes, one of which is killed
	$(BIN)/python -m pytest --timeout 600 -o faulthandler_timeout=0 -s tests/cluster $(ARGS)

cluster-tools:
	@[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || $(SUDO) sh tests/cluster/install

test-hardware: $(STAMP) ## the real stack: camera, GPIO, systemd, power cuts, arm64, resources (SUITE=camera for one)
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.hardware $(SUITE)

corpus: $(STAMP) ## write down anew what the tools say of tests/corpus (ARGS=make for new folders)
	$(BIN)/python -m tests.corpus $(or $(ARGS),expect)

screenshot: $(STAMP) ## draw docs/images/demo.svg anew, from a real run of make demo
	$(BIN)/python -m tests.docs.screenshot

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --verbose >$(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }

bench-tools: $(STAMP)
	@tools/need ffmpeg=ffmpeg age=age
	@[ -d $(VENV)/bench-peers/picamera2 ] || $(PIP) --target $(VENV)/bench-peers -r tests/bench/peers.lock || \
	  echo "picamera2 can't be had: its lines will say so" >&2

bench: $(STAMP) bench-tools ## measure against ffmpeg, age and picamera2, side by side
	$(BIN)/python -m tests.bench $(ARGS)

LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links
lock: ## write the lock files anew from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --extra demo --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	$(LOCK) --no-deps --group pyproject.toml:films -o requirements-films.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build tests/sdk/node_modules
