# The targets a day needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# libvirt_dlopen: libvirt is opened at run time, so that a build of podnic-libvirt needs no headers of it.
TAGS := libvirt_dlopen,libvirt_without_lxc
export GOFLAGS := -tags=$(TAGS) -trimpath
export CGO_ENABLED := 1
export PODNIC_CACHE ?= $(CURDIR)/.cache

# git says nothing about a checkout of another user, as a container's workspace is, and go build then fails. Who runs make
# here trusts it already. Older makes give $(shell) nothing that they export.
ifndef GIT_CONFIG_COUNT
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)
endif
GIT := git -c safe.directory='$(CURDIR)'

VERSION ?= $(shell $(GIT) describe --tags --always --dirty 2>/dev/null || echo unknown)
CNI_PLUGINS := main/ptp main/bridge main/macvlan main/ipvlan ipam/host-local
CNI := $(addprefix $(PODNIC_CACHE)/cni/,$(notdir $(CNI_PLUGINS)))
SHELL_SCRIPTS = $(shell grep -lE '^\#!/bin/(ba)?sh' -r scripts .ci deploy test)
ROOT := $(filter 0,$(shell id -u))

.PHONY: help build check test fresh bench soak fuzz demo images e2e kind cni generate setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/podnic, which is static, and what belongs beside it: bin/podnic-libvirt, bin/podnic-sidecar
	CGO_ENABLED=0 go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/podnic ./cmd/podnic
	go build -ldflags '-s -w' -o bin/podnic-libvirt ./cmd/podnic-libvirt
	CGO_ENABLED=0 GOFLAGS='-tags=grpcnotrace -trimpath' go build -ldflags '-s -w -X main.version=$(VERSION)' \
		-o bin/podnic-sidecar ./cmd/podnic-sidecar

check: ## the inner loop: formatting, vet, staticcheck, dependency rules, unit tests; needs no root
	@scripts/setup check
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'check: run gofmt -w on these' >&2; exit 1; }
	go vet ./...
	go vet -tags=$(TAGS),e2e ./test/e2e
	go tool staticcheck ./...
	go tool staticcheck -tags=$(TAGS),e2e ./test/e2e
	scripts/check-imports
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck $(SHELL_SCRIPTS); shellcheck $(SHELL_SCRIPTS); \
	else \
		echo 'check: no shellcheck here, so the scripts were not checked'; \
	fi
	PODNIC_UNIT=1 go test -race ./...

test: setup cni build ## all tests, in real namespaces and with real guests; run it as root, or what needs root is left out
	scripts/run-tests $(if $(ROOT),--no-skip)

TARGETS ?= demo test

fresh: ## TARGETS (demo test) in a new root where nothing is installed, of Debian's RELEASE (bookworm); needs root
	scripts/fresh $(if $(RELEASE),--release $(RELEASE)) $(TARGETS)

bench: cni build ## measure podnic beside what people use today, and write docs/benchmarks.md; needs root
	@$(if $(ROOT),scripts/setup bench)
	scripts/bench docs/benchmarks.md

soak: setup cni build ## the tests that kill, flood and repeat, ten times as long; needs root
	PODNIC_SOAK=1 go test -count=1 -p 1 -timeout 60m -run 'Kill|Rounds|Flood' ./network ./test/serve

FUZZTIME ?= 10m

fuzz: ## throw random input at the DHCP server, FUZZTIME (10m) a target; what is found is in testdata/fuzz of its package
	@for package in $$(go list ./dhcp/...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "fuzz: $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

demo: setup cni build ## a pod's identity reaches a guest and comes back, as it happens; needs root
	@go build -o $(PODNIC_CACHE)/demo ./test/demo
	@exec $(PODNIC_CACHE)/demo -podnic bin/podnic

generate: ## the Go code of KubeVirt's hook protocol, from domain/kubevirt/hooks/*/*.proto; the result is committed
	scripts/generate

images: setup build ## podnic, podnic-launcher and podnic-test, with podman, docker or buildah; scripts/images lists what can be set
	@go run ./test/e2e/image bin/test
	@VERSION=$(VERSION) REVISION=$(shell $(GIT) rev-parse HEAD 2>/dev/null || echo unknown) scripts/images $(if $(SAVE),save $(SAVE))

e2e: ## launcher pods with guests in the cluster of KUBECONFIG, which has the images; docs/kubernetes.md says how
	go test -tags=$(TAGS),e2e -count=1 -timeout 60m -v ./test/e2e

kind: ## a kind cluster, the images in it, e2e, and the cluster gone again
	scripts/kind.sh

setup: ## install what test and demo need (Debian, Ubuntu; root)
	@$(if $(ROOT),scripts/setup,scripts/setup check)

cni: $(CNI) ## the CNI plugins that make the pods of tests

$(PODNIC_CACHE)/cni/%: go.mod go.sum
	@echo 'cni: $*'
	@CGO_ENABLED=0 go build -o $@ github.com/containernetworking/plugins/plugins/$(filter %/$*,$(CNI_PLUGINS))
	@touch $@

clean: ## remove what was built; the guest's kernel stays in .cache
	rm -rf bin $(PODNIC_CACHE)/cni $(PODNIC_CACHE)/demo
