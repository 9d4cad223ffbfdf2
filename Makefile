# What is done with Spillway's source. .ci/run installs what the tests need, and then makes ci.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

CHECKS = lint audit fuzz race test
OURS   = ./cmd/... ./decode/... ./server/... ./spool/...

.PHONY: help build bench ci $(CHECKS)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

build: ## the program, ./spillway
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$$(git describe --always --dirty)" -o spillway ./cmd/spillway

test: ## all tests; with SPILLWAY_NO_SKIP=1 they fail where what they need could be installed
	GOFLAGS=-timeout=30m go test ./...

race: ## the tests of the program and its packages, with the race detector; those of decode with the order of locks
	go test -race -timeout 15m $(OURS)
	go test -tags ranks ./decode ./decode/allowance ./decode/fleet ./decode/lifetime ./decode/ranked ./decode/upload

fuzz: ## each fuzz target, INPUTS inputs (30000)
	scripts/fuzz $(or $(INPUTS),30000) $(OURS)

bench: ## BASE (HEAD) against the working tree, in turns; BENCH, PKG and COUNT choose
	scripts/ab $(or $(BASE),HEAD) $(or $(COUNT),6) '$(or $(BENCH),.)' $(or $(PKG),./decode/... ./spool ./server)

lint: ## gofmt, vet, staticcheck, arm64, generated assembly, code without assembly, and house style
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "not formatted: $$unformatted" >&2; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./...
	go run $(STATICCHECK) ./...
	go generate ./decode/lanes
	git diff --exit-code decode/lanes
	go test -tags purego ./decode/lanes
	go test ./scripts/style

audit: ## that modules are what go.sum says, and known vulnerabilities that are reached
	go mod verify
	@report=$$(go run $(GOVULNCHECK) ./... 2>&1) && echo "$$report" || case "$$report" in \
	*"fetching vulnerabilities:"*) echo "audit: NOT DONE: the database of vulnerabilities cannot be reached" >&2;; \
	*) echo "$$report" >&2; exit 1;; esac

ci: $(CHECKS) ## all checks
