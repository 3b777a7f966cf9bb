# Everything happens inside this checkout: .venv, .boot, .cache and .maruntime are all that is written.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python

CACHE := $(CURDIR)/.cache
export PIP_CACHE_DIR := $(CACHE)/pip
export UV_CACHE_DIR := $(CACHE)/uv
export XDG_CACHE_HOME := $(CACHE)
export XDG_DATA_HOME := $(CACHE)/data
export RUFF_CACHE_DIR := $(CACHE)/ruff
export PYRIGHT_PYTHON_CACHE_DIR := $(CACHE)/pyright
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NPM_CONFIG_CACHE := $(CACHE)/npm
export NPM_CONFIG_UPDATE_NOTIFIER := false
ifeq ($(strip $(HOME)),)
export HOME := $(CACHE)/home
endif
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

PROTO := proto/maruntime/wire/v1/fabric.proto
GENERATED := maruntime/wire/v1
PYTEST_ARGS ?=
PROCESS ?= *

.PHONY: help setup run up down status logs test itest lint types fmt proto migrate clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@printf '\n  WORKERS=n ORCHESTRATORS=n PORT=n   for run and up\n  CASE=name TAG=tag                  for itest\n'
	@printf '  PROCESS=worker-1 FOLLOW=1          for logs\n  PYTEST_ARGS="-k pool"              for test\n'

setup: ## install everything into .venv; quick when nothing changed
	@deploy/setup

run: setup ## run the whole system here until Ctrl-C
	@$(PY) -m supervisor run

up: setup ## run the whole system in the background
	@$(PY) -m supervisor up

down: setup ## stop what runs in the background
	@$(PY) -m supervisor down

status: setup ## show the processes; exit code 3 of the supervisor when nothing runs
	@$(PY) -m supervisor status

logs: setup ## show the logs
	@$(PY) -m supervisor logs '$(PROCESS)' $(if $(FOLLOW),--follow)

test: setup ## run every test
	@mkdir -p reports
	@$(PY) -m pytest tests -n 2 --dist loadgroup -q --junitxml reports/tests.xml $(PYTEST_ARGS)

itest: setup ## run the YAML cases against a system of their own
	@$(PY) -m supervisor itest

lint: setup ## check style, layers and the generated code
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@PYTHONPATH=.:test-server .venv/bin/lint-imports --cache-dir $(CACHE)/import-linter
	@rm -rf $(CACHE)/proto && mkdir -p $(CACHE)/proto
	@$(PY) -m grpc_tools.protoc -I proto --python_out=$(CACHE)/proto --grpc_python_out=$(CACHE)/proto \
		--pyi_out=$(CACHE)/proto $(PROTO)
	@for file in $(CACHE)/proto/$(GENERATED)/*; do \
		diff -u "$(GENERATED)/$${file##*/}" "$$file" || { echo "The generated code is not that of $(PROTO): run make proto."; exit 1; }; \
	done

types: setup ## check the types
	@$(PY) -m pyright

fmt: setup ## put the code into shape
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

proto: setup ## generate the code of the wire contract
	@$(PY) -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --pyi_out=. $(PROTO)

migrate: setup ## bring the database of DATABASE_URL to the newest schema
	@$(PY) -m orchestrator migrate

clean: ## remove data, logs, keys and reports; refuses while the system is up
	@if [ -x $(PY) ]; then $(PY) -m supervisor clean; else rm -rf reports .maruntime; fi
