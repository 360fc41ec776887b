# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs, says so, and needs no
# more than root's apt-get (or, without root, the packages that it names).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help demo test check unit live system-test transcript pictures replays fuzz crash bench bench-index deb rpm clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: ## See what kiptail makes of a recorded journal; needs no cluster and writes nothing outside of this folder
	@tools/prepare demo
	@tools/demo

test: ## Run everything: the checks, then all tests with Debian 12's packages, Debian 13's (Python 3.13) and PyPI's newest
	@tools/prepare pypi debian live system
	@$(MAKE) check
	@tools/test

check: ## Run the linters: ruff, mypy --strict, import-linter (which holds the architecture), systemd-analyze on the units
	@tools/prepare pypi
	.venv/pypi/bin/ruff check .
	.venv/pypi/bin/ruff format --check --quiet .
	.venv/pypi/bin/mypy
	.venv/pypi/bin/lint-imports
	.venv/pypi/bin/python -m tools.wrong_imports
	tools/units

unit: ## Run the tests that need no root, with PyPI's newest packages; ARGS="-k name" selects
	@tools/prepare pypi
	@tools/pytest pypi -m "not live and not system" $(ARGS)

live: ## Run, as root, the tests on this machine's kernel, journald and systemd; ARGS="-k name" selects
	@tools/prepare debian live
	@tools/pytest debian -m live $(ARGS)

system-test: ## Boot a Debian 12 and a 13 in containers, as root, install the package, and see it work; ARGS="-k name" selects
	@tools/prepare debian live system
	@tools/pytest debian -m system $(ARGS)

transcript: ## Record README's transcript of install, enable and describe anew, as root
	@tools/prepare debian live system
	@.venv/debian/bin/python -m tests.system.record

pictures: ## Take docs' pictures of the report's page anew, in Chromium; as root where that has to be installed
	@tools/prepare debian live
	@.venv/debian/bin/python -m tools.pictures

replays: ## Play the recorded changes of hands with every pair of moments, and 3,000 random histories, for half an hour
	@tools/prepare debian
	@KIPTAIL_TEST_REPLAYS=all KIPTAIL_TEST_HISTORIES=3000 tools/pytest debian --timeout 3600 \
	  tests/test_changes_of_hands.py tests/test_ownership_model.py $(ARGS)

# Rule sets are tried on the kernel, which takes root; what hypothesis makes of journals takes minutes at any rate.
fuzz: ## Try 100 times as much made-up input as `make test` does, from a new seed; ARGS="-k name" selects
	@tools/prepare debian $$([[ $$EUID -ne 0 ]] || echo live)
	@KIPTAIL_TEST_FUZZ=$${KIPTAIL_TEST_FUZZ:-100} tools/pytest debian --timeout 3600 \
	  -m "(fuzz or hypothesis) and not live$$([[ $$EUID -ne 0 ]] || echo ' or fuzz and live')" $(ARGS)

crash: ## Kill kiptail and its API server at random while packets drop, for minutes, as root; ARGS="--kills 200 kills"
	@tools/prepare debian live
	@.venv/debian/bin/python -W error -m tests.crash $(ARGS)

bench: ## Measure how fast and small kiptail is, beside journalctl; docs/performance.md explains; ARGS="--runs 9 --soak 10"
	@tools/prepare debian live
	@.venv/debian/bin/python -m bench $(ARGS)

bench-index: ## Measure memory and time of the pod index with 20,000 pods; docs/scale.md explains; ARGS="--pods 5000"
	@tools/prepare debian live
	@.venv/debian/bin/python -m bench.index $(ARGS)

deb: ## Build the Debian package, into build/; lintian must find nothing
	@tools/prepare packages
	@tools/deb

rpm: ## Build the RPM with this machine's rpmbuild, into build/, and run rpmlint; packaging/rpm/kiptail.spec tells more
	@tools/prepare packages
	@tools/rpm

clean: ## Remove everything that these targets made in this folder
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis kiptail.egg-info
	find bench kiptail tests tools -name __pycache__ -prune -exec rm -rf {} +
