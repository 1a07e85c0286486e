# Every target is a short way to say what stands below it; `make` alone lists them.
# ARGS is passed on where it is named: make demo ARGS='--help'.

ARGS   ?=
T      ?= request_head
CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# bench/ is a package of its own, so that its dependencies never become ours.
BENCH  := $(wildcard bench/Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help demo test fmt lint check-format clippy check-samples deny testssl bench bench-http bench-tls bench-packets bench-upgrade bench-pick fuzz model soak docs deb static clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## build for release and run the demo (ARGS)
	$(CARGO) build --release
	$(TARGET)/release/evenkeel demo $(ARGS)

test: ## install what the tests need, then run them all
	tests/install.sh
	$(CARGO) test --workspace

fmt: ## format all code
	$(CARGO) fmt --all
	$(if $(BENCH),$(CARGO) fmt --manifest-path $(BENCH))

lint: check-format clippy ## check the formatting and run clippy, warnings being errors

check-format:
	$(CARGO) fmt --all --check
	$(if $(BENCH),$(CARGO) fmt --manifest-path $(BENCH) --check)

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(if $(BENCH),$(CARGO) clippy --manifest-path $(BENCH) --all-targets -- -D warnings)

# A block of README.md counts when it has a listener; the others are excerpts.
check-samples: ## check every config in samples/, examples/ and README.md
	$(CARGO) build --quiet --bin evenkeel
	@rm -rf $(TARGET)/readme && mkdir -p $(TARGET)/readme
	@test ! -f README.md || awk -v to=$(TARGET)/readme/block \
		'/^```toml/ { n++; within = 1; next } /^```/ { within = 0 } within { print > (to n ".toml") }' README.md
	@failed=0; \
	for file in $$(find samples examples $(TARGET)/readme -name '*.toml' ! -name Cargo.toml 2>/dev/null | sort); do \
		case $$file in $(TARGET)/readme/*) grep -q '^ *listen *=' $$file || continue;; esac; \
		echo "check $$file"; \
		$(TARGET)/debug/evenkeel check -c $$file || failed=1; \
	done; exit $$failed

# Without a network the list of advisories cannot be had; licenses, bans and sources need none.
deny: ## check licenses, sources and advisories of dependencies (needs cargo-deny)
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
		echo "cargo-deny is not installed, so nothing was checked: cargo install --locked cargo-deny"; \
	elif $(CARGO) deny fetch db >/dev/null 2>&1; then \
		$(CARGO) deny check; \
	else \
		echo "the advisories cannot be fetched: checking the rest"; \
		$(CARGO) deny check bans licenses sources; \
	fi

testssl: ## have testssl.sh look at every profile of TLS, or at those named: make testssl ARGS=modern
	tests/install.sh
	$(CARGO) build --quiet --bin evenkeel
	tests/testssl.sh $(ARGS)

bench: ## run side by side with other load balancers (ARGS)
	bench/run.sh $(ARGS)

bench-http: ## the same as HTTP proxies and file servers (ARGS)
	bench/run.sh --http $(ARGS)

bench-tls: ## the same through TLS, each proxy on a core of its own (ARGS)
	bench/run.sh --tls --pin --threads 1 $(ARGS)

bench-packets: ## packets balanced one by one beside connections relayed (ARGS)
	bench/run.sh --packets --pin --threads 1 $(ARGS)

bench-upgrade: ## what an upgrade does to 5,000 connections, and to the same elsewhere (ARGS)
	bench/run.sh --upgrade --threads 1 $(ARGS)

bench-pick: ## measure the pickers alone
	$(CARGO) bench -p evenkeel-balance

fuzz: ## fuzz one parser for a while: make fuzz T=request_head ARGS='-- -max_total_time=60' (needs cargo-fuzz and nightly)
	mkdir -p fuzz/corpus/$(T)
	$(CARGO) +nightly fuzz run $(T) fuzz/corpus/$(T) fuzz/seeds/$(T) $(ARGS)

model: ## packets against their model, many times over: make model SEEDS=4000
	EVENKEEL_SEEDS=$(or $(SEEDS),4000) $(CARGO) test --test promises packets_model

soak: ## run for long under load and watch for leaks (ARGS)
	bench/soak.sh $(ARGS)

docs: ## write docs/reference.md anew from the config types
	EVENKEEL_BLESS=1 $(CARGO) test config

deb: ## build target/evenkeel_VERSION_ARCH.deb, with dpkg-deb
	$(CARGO) build --release --bin evenkeel
	contrib/deb.sh $(TARGET)/release/evenkeel $(TARGET)

# One binary that needs nothing of the system it runs on, where the toolchain can build one.
STATIC := $(shell uname -m)-unknown-linux-musl
static: ## build a static binary (needs the musl target and a musl C compiler)
	@if rustup target list --installed 2>/dev/null | grep -qx $(STATIC); then \
		$(CARGO) build --release --bin evenkeel --target $(STATIC) && echo "$(TARGET)/$(STATIC)/release/evenkeel"; \
	else \
		echo "the toolchain cannot build for $(STATIC): rustup target add $(STATIC)"; exit 1; \
	fi

clean: ## remove what was built
	$(CARGO) clean
	$(if $(BENCH),$(CARGO) clean --manifest-path $(BENCH))
