VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
PREFIX := /usr/local
STAMP := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What is outside ./... because its folder begins with a dot.
PACKAGES := ./... ./.ci/demo

.PHONY: build install demo test bench generate lint clean

build:
	go build -trimpath -ldflags "$(STAMP)" -o bin/felix ./felix
	go build -trimpath -ldflags "$(STAMP)" -o bin/margayctl ./ctl

# PREFIX is where the machine looks for programs; DESTDIR is put before it, for packages.
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 bin/felix bin/margayctl $(DESTDIR)$(PREFIX)/bin
	bin/margayctl docs man $(DESTDIR)$(PREFIX)/share/man/man1
	bin/margayctl completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/margayctl
	bin/margayctl completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_margayctl
	bin/margayctl completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/margayctl.fish

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
