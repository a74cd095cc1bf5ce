# `make` prints the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build install wheel train sweep export test lint bench

CONFIG ?= configs/notebook.toml
ARGS ?=
GRIMACE := ./target/release/grimace

help:
	@echo "make setup     install libtorch into .venv, or use LIBTORCH if it is set"
	@echo "make build     build target/release/grimace"
	@echo "make install   install grimace, its manual pages and shell completions below PREFIX (~/.local)"
	@echo "make wheel     build dist/grimace-*.whl, which pip installs without a Rust toolchain"
	@echo "make train     train $(CONFIG) on FER2013 in data/ under any of its usual names, or else on synthetic images"
	@echo "               CONFIG=configs/x.toml ARGS='--set train.batch=128' select and override the config"
	@echo "make sweep     train the configs in configs/sweep and the forest, and compare them"
	@echo "               ARGS='--seeds 5 --out runs/five'; add --resume to resume an interrupted sweep"
	@echo "make export    export a run: RUN=runs/notebook-... OUT=model.pt or model.onnx (default: the newest run, model.pt)"
	@echo "               ARGS=--force overwrites another model or file"
	@echo "make test      run all tests"
	@echo "make lint      rustfmt, clippy, rustdoc, typos, cargo-deny; warnings are errors"
	@echo "make bench     criterion benches, then Grimace against PyTorch and Keras, about an hour: docs/benchmarks.md"
	@echo "               ARGS='--quick' takes minutes; python3 scripts/bench.py --help lists all options"

setup:
	@scripts/setup.sh

build: setup
	@scripts/build.sh

install: build
	@PREFIX='$(PREFIX)' scripts/install.sh

wheel: setup
	@scripts/wheel.sh

train: build
	@CONFIG='$(CONFIG)' scripts/train.sh $(ARGS)

sweep: build
	@scripts/sweep.sh $(ARGS)

# The default RUN is the one whose best checkpoint is newest.
export: build
	@run='$(RUN)'; run=$${run:-$$(ls -t runs/*/best.safetensors runs/*/*/best.safetensors 2>/dev/null | head -n 1 | xargs -r dirname)}; \
	if [ -z "$$run" ]; then echo "export: no run in runs/; train one first: make train" >&2; exit 2; fi; \
	$(GRIMACE) export "$$run" --out '$(or $(OUT),model.pt)' $(ARGS)

test:
	@scripts/setup.sh --python
	cargo test --release --workspace --exclude grimace-benches
	$(or $(PYTHON),python3) scripts/test_bench.py

lint: setup
	@scripts/lint.sh
	cargo fmt --all --check
	@# As for tests: build scripts, one of which compiles libtorch's wrapper, are built once.
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps

bench: build
	@echo "bench: the first run compiles polars again, for criterion: about 5 minutes on 2 cores" >&2
	cargo bench -p grimace-benches
	$(or $(PYTHON),python3) scripts/bench.py $(ARGS)
