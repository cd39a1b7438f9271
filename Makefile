# make demo [KEEP=1]  see it work, in an environment of its own
# make test           set up, install the real services where allowed, check, run every test
# make check          format, lint, types, import contracts, layout and documentation
# make bench          measure (docs/performance.md)
# make lock           write the lock files anew; UPGRADE=1 takes newer versions
# make clean          remove caches; make distclean: environments and built services too

.DEFAULT_GOAL := help
.PHONY: help demo test environment services check static types bench lock clean distclean

# A module's tests stay together, for what they share; the long ones of acceptance/ come first. Many
# tests wait for a service, so that two more of them than there are cores go on at once.
IN_PARALLEL := --numprocesses=$(shell echo $$(( $$(nproc) < 2 ? 3 : 4 ))) \
	--dist=loadscope --no-loadscope-reorder

# Installed without compiling, what is used is compiled on its first use; then it must be kept. The
# first use is the help on all verbs, so that later ones find it compiled where nothing is kept.
unexport PYTHONDONTWRITEBYTECODE

fingerprint = $(shell cat pyproject.toml $(1) | cksum | tr ' ' '-')
DEV := .venv/.ready-$(call fingerprint,requirements-dev.lock)
DEMO := .venv-demo/.ready-$(call fingerprint,requirements.lock)
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet --no-compile --root-user-action=ignore

help:
	@sed -n '/^#/!q;s/^# //p' $(firstword $(MAKEFILE_LIST))

# Nothing is resolved here: the lock names every distribution with its hash, and our own package is
# built with the locked build backend.
define set_up
	test -x $(1)/bin/python || "$$(scripts/find-python)" -m venv $(1)
	$(1)/bin/python $(PIP_INSTALL) --require-hashes --requirement $(2)
	$(1)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	$(1)/bin/flute-sync --help > /dev/null
	rm -f $(1)/.ready-*
	touch $@
endef

$(DEV):
	@$(call set_up,.venv,requirements-dev.lock)

$(DEMO):
	@$(call set_up,.venv-demo,requirements.lock)

environment: $(DEV)

demo: $(DEMO)
	@.venv-demo/bin/flute-sync demo $(if $(KEEP),--keep)

# It needs nothing of the environment, so that neither waits for the other.
services:
	@scripts/phase services "$$(scripts/find-python)" -m tests.services.install

check: static types

# All tests are collected for a few of them: what that compiles, no worker of `test` compiles anew.
static: $(DEV)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/lint-imports
	.venv/bin/python -m pytest --quiet -k "test_layout or test_docs"

types: $(DEV)
	.venv/bin/mypy

test:
	@scripts/phase "set-up and check" \
		$(MAKE) --no-print-directory --jobs=2 --output-sync services check
	@.venv/bin/python -m pytest $(IN_PARALLEL) --durations=10

bench: $(DEV)
	@.venv/bin/python -m bench

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) pyproject.toml

# The extras `parquet` and `nifti` are for development, and for those who want them.
lock: $(DEV)
	$(LOCK) --extra postgresql --group build --output-file requirements.lock
	$(LOCK) --all-extras --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-demo .cache
