# Everything a developer or CI runs. Only Go and make are needed; what else a target needs, it builds or says.
.DEFAULT_GOAL := help
.PHONY: help build test test-full fuzz verify check bench chaos chaos-mutants generate fmt breaking

# Cold builds of these take minutes on two cores; they are outside go.mod because their dependencies clash with ours.
BUF         := go tool -modfile=tools/buf.mod buf
STATICCHECK := go tool -modfile=tools/lint.mod staticcheck

# make test PKG=./internal/... TESTFLAGS='-run Names -v'
PKG       ?= ./...
TESTFLAGS ?=
CHAOSFLAGS ?=
AGAINST   ?=

# make bench BENCHFLAGS='-quick -only tools'
BENCHFLAGS ?= -markdown docs/benchmarks.md

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## the programs, into bin/
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/...

# SQLite keeps its data outside of Go's memory, where the race detector sees nothing, and is many times slower with it.
# The flags are in the environment for the programs that tests and chaos build, too.
UNCHECKED = modernc.org/sqlite/lib modernc.org/libc modernc.org/memory
test chaos: export GOFLAGS := $(shell go env GOFLAGS) $(UNCHECKED:%=-gcflags=%=-race=false)

# vet sees the race build too, so that both share one compilation of the dependencies. Results are never taken from the
# cache: tests run binaries and servers that the cache does not know of.
test: ## vet, then every test with the race detector and a real Postgres
	go vet -race $(PKG)
	@mkdir -p bin
	@go build -race -o bin/pgtest ./internal/pgtest/start
	@bin/pgtest -fsync=false go test -race -count=1 -timeout=20m $(TESTFLAGS) $(PKG)

# Packages whose property tests take -rapid.checks: those that use rapid, and the stores through their contract suite.
PROPERTIES = $$(grep -rl --include='*_test.go' 'pgregory.net/rapid"' . | xargs -n1 dirname | sort -u) \
	./services/control/store/sqlite ./services/control/store/postgres
CHECKS   ?= 1000
FUZZTIME ?= 10s

# FUZZ runs the fuzz targets below the folders FUZZED, one after the other. Go's own driver races with its deadline: it
# may report that alone as a failure, in a line of its own, when the time is over. A target that was broken says more.
FUZZED ?= .
FUZZ = mkdir -p bin; grep -rn --include='*_test.go' '^func Fuzz' $(FUZZED) | \
	sed -E 's/^([^:]*)\/[^\/]*:[0-9]*:func (Fuzz[A-Za-z0-9]*).*/\1 \2/' | \
	while read -r package target; do \
		echo "fuzz $$package $$target"; \
		{ go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) "./$$package" 2>&1; echo "exit $$?"; } | \
			tee bin/fuzz.log; \
		grep -qx 'exit 0' bin/fuzz.log || grep -qx '    context deadline exceeded' bin/fuzz.log || exit 1; \
	done

test-full: test ## make test, then long property runs, every fuzz target and chaos: before a feature is called done
	bin/pgtest -fsync=false go test -tags full -count=1 -timeout=60m $(PROPERTIES) -rapid.checks=$(CHECKS)
	go test -race -tags full -count=1 -run='KilledAtEveryWrite$$' ./internal/platformtest
	bin/pgtest -fsync=false go test -race -tags full -count=1 -run='^TestTablesOfRuns$$' ./cmd/control
	@$(FUZZ)
	CHAOS_RACE=1 $(MAKE) chaos

fuzz: FUZZTIME = 20s
fuzz: FUZZED = services/control/gateway services/control/workflow services/control/document internal/rpc
fuzz: ## every fuzz target of what strangers reach over HTTP and gRPC, and of workflows, each for FUZZTIME
	@$(FUZZ)

check: ## the cheap part of verify: format, tidy modules, licences, large files, wide lines
	@unformatted="$$(go tool gofumpt -l .)" && test -z "$$unformatted" || { \
		echo "not formatted; run make fmt:" $$unformatted >&2; exit 1; }
	go mod tidy -diff
	go run ./internal/licenses
	go run ./internal/tree

verify: generate check ## all that must hold before a push, apart from the tests
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(MAKE) breaking
	go vet ./...
	$(STATICCHECK) ./...
	go test -count=1 .
	@test -z "$$(git status --porcelain)" || { \
		echo "the work tree differs from HEAD; commit what is meant, or what generate changed:" >&2; \
		git status --short >&2; exit 1; }

bench: ## measure memory, SQLite and Postgres, each figure beside its floor, into docs/benchmarks.md
	go run ./internal/bench $(BENCHFLAGS)

# CHAOS_SEED and CHAOS_SECONDS change what happens, CHAOS_RACE=1 builds with the race detector, as the tests are built, and finds
# races too; CHAOSFLAGS=-v tells each fault.
chaos: ## real programs under a seeded schedule of faults; what is left is checked against the invariants
	@mkdir -p bin
	@go build $(if $(CHAOS_RACE),-race) -o bin/chaos ./internal/chaos
	@bin/chaos $(CHAOSFLAGS)

chaos-mutants: ## deliberately broken builds, each of which chaos has to find out; takes long
	@mkdir -p bin
	@go build -o bin/chaos ./internal/chaos
	@bin/chaos -mutants $(CHAOSFLAGS)

generate: ## gen/ from proto/
	$(BUF) generate

# CONTRIBUTING.md tells how a break is declared.
breaking: ## refuse what proto/ breaks for users of AGAINST (default: the last landed commit) and no commit declares
	go run ./internal/breaking -against '$(AGAINST)' $(BUF)

fmt: ## format Go and protobuf
	@go tool gofumpt -w .
	$(BUF) format -w
