VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
STAMP := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What is outside ./... because its folder begins with a dot.
PACKAGES := ./... ./.ci/demo

.PHONY: build demo test bench generate lint clean

build:
	go build -trimpath -ldflags "$(STAMP)" -o bin/felix ./felix
	go build -trimpath -ldflags "$(STAMP)" -o bin/margayctl ./ctl

# Needs root: it makes network namespaces, and removes them again.
demo: build
	go build -o bin/demo ./.ci/demo
	./bin/demo

test: build
	.ci/install-packages
	.ci/test

bench:
	.ci/bench

generate:
	go generate ./...

lint:
	go vet $(PACKAGES)
	go tool staticcheck $(PACKAGES)
	@test -z "$$(gofmt -l . .ci)" || { echo "not gofmt-ed:"; gofmt -l . .ci; exit 1; }

clean:
	rm -rf bin
