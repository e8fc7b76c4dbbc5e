# The targets a day needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# libvirt_dlopen: libvirt is opened at run time, so that a build of podnic-libvirt needs no headers of it.
comma := ,
TAGS := libvirt_dlopen,libvirt_without_lxc$(if $(COUNTERS),$(comma)coverage)
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
CNI_PLUGINS := main/ptp main/bridge main/macvlan main/ipvlan ipam/host-local ipam/dhcp
CNI := $(addprefix $(PODNIC_CACHE)/cni/,$(notdir $(CNI_PLUGINS)))
SHELL_SCRIPTS = $(shell grep -lE '^\#!/bin/(ba)?sh' -r scripts .ci deploy test)
ROOT := $(filter 0,$(shell id -u))

.PHONY: help build man install uninstall reference dist dist-twice test-arm64 check test earlier fresh matrix fresh-bookworm fresh-trixie fresh-noble images-podman images-docker containers kind-pinned kind-newest bench charts trends soak fuzz demo recording images e2e kind cni generate setup root clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# COUNTERS=DIR builds programs that count what runs of them and write it into DIR at their end (test/coverage).
BIN := bin
COVER := $(if $(COUNTERS),-cover)
COVERAGE := $(if $(COUNTERS),$(comma)coverage)
LDFLAGS := -s -w $(if $(COUNTERS),-X github.com/podnic/podnic/test/coverage.directory=$(COUNTERS))

build: ## bin/podnic, which is static, and what belongs beside it: bin/podnic-libvirt, bin/podnic-sidecar
	CGO_ENABLED=0 go build $(COVER) -ldflags '$(LDFLAGS) -X main.version=$(VERSION)' -o $(BIN)/podnic ./cmd/podnic
	go build $(COVER) -ldflags '$(LDFLAGS)' -o $(BIN)/podnic-libvirt ./cmd/podnic-libvirt
	CGO_ENABLED=0 GOFLAGS='-tags=grpcnotrace$(COVERAGE) -trimpath' go build $(COVER) -ldflags '$(LDFLAGS) -X main.version=$(VERSION)' \
		-o $(BIN)/podnic-sidecar ./cmd/podnic-sidecar

# The date of what is built is that of the commit, so that the same source gives the same bytes.
EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell $(GIT) log -1 --format=%ct 2>/dev/null || echo 0))

man: ## bin/man: a man page for each command
	@rm -rf $(BIN)/man
	SOURCE_DATE_EPOCH=$(EPOCH) CGO_ENABLED=0 go run -tags=$(TAGS),docs -ldflags '-X main.version=$(VERSION)' ./cmd/podnic docs man $(BIN)/man

PREFIX ?= /usr/local

install: build man ## the programs, man pages and bash's completion into DESTDIR and PREFIX (/usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/bash-completion/completions'
	install $(BIN)/podnic $(BIN)/podnic-libvirt $(BIN)/podnic-sidecar '$(DESTDIR)$(PREFIX)/bin'
	install -m 644 $(BIN)/man/*.1 '$(DESTDIR)$(PREFIX)/share/man/man1'
	$(BIN)/podnic completion bash >'$(DESTDIR)$(PREFIX)/share/bash-completion/completions/podnic'

# docs/reference has a page for each man page.
uninstall: ## what make install put below DESTDIR and PREFIX, and nothing else; directories stay
	rm -f $(patsubst %,'$(DESTDIR)$(PREFIX)/bin/%',podnic podnic-libvirt podnic-sidecar) \
		$(patsubst docs/reference/%.md,'$(DESTDIR)$(PREFIX)/share/man/man1/%.1',$(subst _,-,$(wildcard docs/reference/*.md))) \
		'$(DESTDIR)$(PREFIX)/share/bash-completion/completions/podnic'

reference: ## docs/reference, from what the commands say of themselves; the result is committed, and check compares it
	@rm -rf bin/reference
	CGO_ENABLED=0 go run -tags=$(TAGS),docs ./cmd/podnic docs markdown bin/reference
	@rm -rf docs/reference && cp -r bin/reference docs/reference # if there is a new one

DIST ?= bin/dist

dist: ## what a release consists of, into DIST (bin/dist): archives and images for amd64 and arm64, a Debian package, SBOMs, checksums
	SOURCE_DATE_EPOCH=$(EPOCH) VERSION=$(VERSION) scripts/dist $(DIST)

dist-twice: ## the release of HEAD, built twice from nothing in two places: the bytes have to be the same
	scripts/dist-twice

PURE := ./network/plan ./dhcp ./dhcp/internal/... ./dhcp/trace ./cmd/printable ./cmd/draw ./cmd/podnic

test-arm64: ## unit tests of what needs no kernel of its own, built for arm64 and run by qemu-user
	@command -v qemu-aarch64 >/dev/null || { echo 'test-arm64: qemu-aarch64 is not here: install qemu-user' >&2; exit 1; }
	PODNIC_UNIT=1 GOARCH=arm64 CGO_ENABLED=0 GOFLAGS=-trimpath go test -exec qemu-aarch64 $(PURE)

check: ## the inner loop: formatting, vet, staticcheck, dependency rules, unit tests; needs no root
	@scripts/setup check
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'check: run gofmt -w on these' >&2; exit 1; }
	go vet ./...
	go vet -tags=$(TAGS),e2e ./test/e2e ./test/containers
	go vet -tags=$(TAGS),coverage ./cmd/... ./test/coverage
	go vet -tags=$(TAGS),docs ./cmd/podnic
	go vet -tags=$(TAGS),earlier ./test/upgrade
	go tool staticcheck ./...
	go tool staticcheck -tags=$(TAGS),e2e ./test/e2e ./test/containers
	go tool staticcheck -tags=$(TAGS),earlier ./test/upgrade
	scripts/check-imports
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck $(SHELL_SCRIPTS); shellcheck $(SHELL_SCRIPTS); \
	else \
		echo 'check: no shellcheck here, so the scripts were not checked'; \
	fi
	PODNIC_UNIT=1 go test -race ./...

test: setup root cni build $(PODNIC_CACHE)/tools/dlv ## all tests, in real namespaces and with real guests; run it as root, or what needs root is left out
	scripts/run-tests $(if $(ROOT),--no-skip)

# Delve, for docs/debugging.md: built before the tests, since that takes longer than any command of theirs.
$(PODNIC_CACHE)/tools/dlv: scripts/debug.mod scripts/debug.sum
	GOBIN=$(@D) go install -modfile=scripts/debug.mod github.com/go-delve/delve/cmd/dlv
	@touch $@

TARGETS ?= demo test

fresh: ## TARGETS (demo test) in a new root where nothing is installed, of Debian's RELEASE (bookworm); needs root
	scripts/fresh $(if $(RELEASE),--release $(RELEASE)) $(TARGETS)

# What a release is tried on: each is a job of .github/workflows/matrix.yaml. What was never run where podnic is developed says so.
MATRIX := fresh-bookworm fresh-trixie fresh-noble images-podman images-docker containers earlier kind-pinned kind-newest

matrix: $(MATRIX) ## all that a release is tried on, the nine below; make -k matrix goes on after a failure; needs root

fresh-bookworm: ## fresh in Debian 12
fresh-trixie: ## fresh in Debian 13
fresh-noble: ## fresh in Ubuntu 24.04; not run where podnic is developed: Ubuntu's packages and keyring are not there
$(filter fresh-%,$(MATRIX)): fresh-%:
	scripts/fresh --release $* $(TARGETS)

images-podman: ## images with podman
images-docker: ## images with docker; not run where podnic is developed: no docker daemon there
$(filter images-%,$(MATRIX)): images-%:
	@ENGINE=$* $(MAKE) --no-print-directory images

containers: setup cni ## the documents' commands that take a container engine, by podman: images are built, and containers are guests; needs root
	go test -tags=$(TAGS),e2e -count=1 -timeout 60m -v ./test/containers

EARLIER ?= cee73f5

earlier: ## the tests of an upgrade with the program of commit EARLIER (cee73f5) itself, which git's history has; UPDATE=1 records it; needs root and strace
	@$(if $(ROOT),,echo 'earlier: run it as root' >&2; exit 1)
	@command -v strace >/dev/null || { echo 'earlier: strace is not here: install it' >&2; exit 1; }
	@$(GIT) cat-file -e '$(EARLIER)^{commit}' 2>/dev/null || { echo 'earlier: commit $(EARLIER) is not here: git fetch --unshallow, if this is a shallow clone' >&2; exit 1; }
	$(MAKE) --no-print-directory setup cni build
	@rm -rf $(PODNIC_CACHE)/$@-program && mkdir -p $(PODNIC_CACHE)/$@-program
	$(GIT) archive $(EARLIER) | tar -x -C $(PODNIC_CACHE)/$@-program
	$(MAKE) --no-print-directory -C $(PODNIC_CACHE)/$@-program build VERSION=$(EARLIER)
	PODNIC_EARLIER=$(PODNIC_CACHE)/$@-program/bin/podnic go test -tags=$(TAGS),earlier -count=1 -timeout 5m ./test/upgrade $(if $(UPDATE),-args -update)

# A kind has the image of its node by digest: one and the same kind always makes the same cluster.
KIND_PINNED := v0.33.0

kind-pinned: KIND_VERSION = $(KIND_PINNED)
kind-pinned: ## kind with a kind and node image that stay; not run where podnic is developed: no registry of images there
kind-newest: KIND_VERSION = latest
kind-newest: ## kind with the newest kind and its node image; not run where podnic is developed, as kind-pinned
$(filter kind-%,$(MATRIX)):
	GOBIN=$(PODNIC_CACHE)/$@ GOFLAGS=-trimpath CGO_ENABLED=0 go install sigs.k8s.io/kind@$(KIND_VERSION)
	PATH="$(PODNIC_CACHE)/$@:$$PATH" scripts/kind.sh

bench: cni build ## measure podnic beside what people use today, and write docs/benchmarks.md; needs root; EARLIER=COMMIT beside that
	@$(if $(ROOT),scripts/setup bench)
	scripts/bench docs/benchmarks.md

charts: ## docs/benchmarks.md and its charts anew, from the figures that it names: after a change of what draws them
	go run ./test/bench/table -redraw docs/benchmarks.md

trends: ## benchstat's comparison of the runs kept in docs/bench, the oldest first; RUNS=… of some
	go tool -modfile=scripts/bench.mod benchstat -ignore date,machine,software,beside,earlier $(RUNS)

RUNS ?= $(wildcard docs/bench/*.txt)

soak: setup cni build ## the tests that kill, flood and repeat, ten times as long; needs root
	PODNIC_SOAK=1 go test -count=1 -p 1 -timeout 60m -run 'Kill|Rounds|Flood|Inverse|FailsAnywhere|WithoutRecord|TestModel|KeepsItsOwnLease|KeepsItsIPv6|HasAllInterfaces' \
		./network ./test/serve ./test/shapes ./test/run

FUZZTIME ?= 10m

fuzz: ## throw random input at the DHCP server, FUZZTIME (10m) a target; what is found is in testdata/fuzz of its package
	@for package in $$(go list ./dhcp/...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "fuzz: $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

DEMO_FAMILY ?= 4
DEMO_VMM ?= libvirt

demo: setup cni build ## a pod's identity reaches a guest and comes back, as it happens; needs root; DEMO_FAMILY=6: IPv6 alone; DEMO_VMM=qemu: no libvirt
	@go build -o $(PODNIC_CACHE)/demo ./test/demo
	@exec $(PODNIC_CACHE)/demo -podnic bin/podnic -family $(DEMO_FAMILY) -vmm $(DEMO_VMM)

recording: setup cni build ## docs/demo.cast and docs/demo.svg: the demo, recorded at a terminal and drawn; needs root
	@go build -o $(PODNIC_CACHE)/demo ./test/demo
	@go run ./test/recording docs/demo.cast $(PODNIC_CACHE)/demo -podnic bin/podnic

generate: ## the Go code of KubeVirt's hook protocol, from domain/kubevirt/hooks/*/*.proto; the result is committed
	scripts/generate

images: setup build man ## podnic, podnic-launcher, podnic-qemu and podnic-test, with podman, docker or buildah; scripts/images lists what can be set
	@go run ./test/e2e/image bin/test
	@SOURCE_DATE_EPOCH=$(EPOCH) VERSION=$(VERSION) REVISION=$(shell $(GIT) rev-parse HEAD 2>/dev/null || echo unknown) scripts/images $(if $(SAVE),save $(SAVE))

e2e: ## launcher pods with guests in the cluster of KUBECONFIG, which has the images; docs/kubernetes.md says how
	go test -tags=$(TAGS),e2e -count=1 -timeout 60m -v ./test/e2e

kind: ## a kind cluster, the images in it, e2e, and the cluster gone again
	scripts/kind.sh

setup: ## install what test and demo need (Debian, Ubuntu; root)
	@$(if $(ROOT),scripts/setup,scripts/setup check)

root: ## what the images stand on, Debian and the packages that they install, for the tests that run the documents' commands
	@$(if $(ROOT),scripts/root $(PODNIC_CACHE)/root)

cni: $(CNI) ## the CNI plugins that make the pods of tests

$(PODNIC_CACHE)/cni/%: go.mod go.sum
	@echo 'cni: $*'
	@CGO_ENABLED=0 go build -o $@ github.com/containernetworking/plugins/plugins/$(filter %/$*,$(CNI_PLUGINS))
	@touch $@

clean: ## remove what was built; the guest's kernel stays in .cache
	rm -rf bin $(PODNIC_CACHE)/cni $(PODNIC_CACHE)/covered $(PODNIC_CACHE)/demo $(PODNIC_CACHE)/tools \
		$(PODNIC_CACHE)/earlier-program $(PODNIC_CACHE)/programs
