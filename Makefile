# Grimace from a shell. `make` alone lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build train sweep export test lint bench

CONFIG ?= configs/seed.toml
ARGS ?=
GRIMACE := ./target/release/grimace

help:
	@echo "make train     set up, build, and train $(CONFIG) on data/, or on drawn faces when there is no data/"
	@echo "               CONFIG=configs/x.toml ARGS='--set train.batch=128' change what is trained"
	@echo "make export    write a run as TorchScript: RUN=runs/seed-... OUT=model.pt (default: the newest run, model.pt)"
	@echo "make sweep     train the five configurations in configs/sweep and the forest, and compare them: hours on 2 cores"
	@echo "               ARGS='--seeds 5 --out runs/five'; the same with --resume goes on where it stopped"
	@echo "make setup     install libtorch into .venv (LIBTORCH, when set, is used instead)"
	@echo "make build     build target/release/grimace"
	@echo "make test      set up and run every test"
	@echo "make lint      rustfmt, clippy and rustdoc, warnings are errors"
	@echo "make bench     criterion benches, then Grimace beside PyTorch and Keras for an hour: docs/benchmarks.md"
	@echo "               ARGS='--quick' takes minutes; python3 scripts/bench.py --help has the rest"

setup:
	@scripts/setup.sh

build: setup
	@scripts/build.sh

train: build
	@CONFIG='$(CONFIG)' scripts/train.sh $(ARGS)

sweep: build
	@scripts/sweep.sh $(ARGS)

# Without RUN: the network under runs/ whose best weights changed last.
export: build
	@run='$(RUN)'; run=$${run:-$$(ls -t runs/*/best.safetensors runs/*/*/best.safetensors 2>/dev/null | head -n 1 | xargs -r dirname)}; \
	if [ -z "$$run" ]; then echo "export: there is no run in runs/; train one first: make train" >&2; exit 2; fi; \
	$(GRIMACE) export "$$run" --out '$(or $(OUT),model.pt)'

test:
	@scripts/setup.sh --python
	cargo test --release --workspace --exclude grimace-benches
	$(or $(PYTHON),python3) scripts/test_bench.py

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

bench: build
	@echo "bench: the first run compiles polars once more, for criterion: about 5 minutes on 2 cores" >&2
	cargo bench -p grimace-benches
	$(or $(PYTHON),python3) scripts/bench.py $(ARGS)
