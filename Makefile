# The two commands of the README, and what they are made of.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)

.PHONY: demo fabric test soak fuzz bench unit sbom image setup ci

## demo: boot a node with a real kernel, systemd and FRR, run the agent on a folder of manifests, show the result
demo: setup-node
	$(CARGO) test --locked --test demo

## fabric: boot two nodes in a fabric of leaves, spines and a border leaf, run agents on both, and show who reaches whom
fabric: setup-node
	$(CARGO) test --locked --test fabric

## test: install what the tests need, and run all of them
test: setup
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --locked

## soak: the long tests: the fuzz targets, then hundreds of change sets and kills on both FRR versions, about two hours
##       (SOAK_SCALE=10: a tenth); the lines that begin with SOAK sum them up
soak: setup fuzz
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-2} $(CARGO) test --locked --test soak -- --nocapture

## fuzz: each fuzz target for FUZZ_SECONDS (300)
fuzz: setup-fuzzer
	fuzz/run.sh $${FUZZ_SECONDS:-$$((300 / $${SOAK_SCALE:-1}))}

## bench: what the eBPF router costs per packet and what a routed path carries with it, what rendering, links, changes and starts take beside other tools, what the agent takes at rest, and what its metrics take (as root; an hour and a half)
bench: setup
	$(CARGO) bench --locked --no-fail-fast --bench router --bench render --bench links --bench runs --bench rest --bench scrapes

## unit: the tests that need neither root nor the lab
unit:
	$(CARGO) test --locked --lib --test link_plan --test router_plan --test pipeline --test running --test house --test crds --test cel --test render --test cli --test docs --test metrics --test validate --test state --test vtysh_end

## sbom: what is linked into the program, as CycloneDX, in target/sbom
sbom: setup-sbom
	deploy/sbom.sh

## image: the container image (podman, or ENGINE=docker)
image:
	$(or $(ENGINE),podman) build --file deploy/Containerfile --tag network-operator:$(VERSION) .

## setup: packages, node images and an API server for the tests (cached)
setup:
	tests/lab/setup.sh

.PHONY: setup-node setup-fuzzer setup-builder setup-sbom
setup-builder:
	tests/lab/setup.sh rust packages

setup-fuzzer:
	tests/lab/setup.sh rust packages fuzzer

setup-sbom:
	tests/lab/setup.sh rust packages sbom

setup-node:
	tests/lab/setup.sh rust packages images

## ci: what must hold before a change lands
ci:
	.ci/run
