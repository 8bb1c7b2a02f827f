# Engram's commands. `make` alone lists them.
#
# What is needed: a Rust toolchain (1.95 or newer) and a C compiler. Parts of the
# toolchain are added through rustup where they are missing, and valgrind through the distribution where
# that needs no asking; all else is named, not installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DATA ?= ./engram-data
LISTEN ?= 127.0.0.1:7432
CARGO ?= cargo
# Where cargo puts what it builds: CARGO_TARGET_DIR and build.target-dir may say another place.
TARGET = $(or $(CARGO_TARGET_DIR),$(shell $(CARGO) metadata --format-version 1 --no-deps 2>/dev/null \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'),target)

# The threads and locks of this build are shuttle's: only these tests can run with it.
RACE_TESTS = $(CARGO) test --locked -p engram-core --features shuttle --test race_tests

# What Engram is measured beside: a workspace of its own, in the same place of what is built.
PEERS = --manifest-path engram-bench/peers/Cargo.toml

# The simulator switches on a feature of the engine that the product never has.
PRODUCT = --workspace --exclude engram-sim

# Long forms of tests that the gate runs short. A failing one prints its seed: ENGRAM_TEST_SEED=….
.PHONY: kill-test flip-test index-kill-test recall-test strace-test crowd-test soak race sim sim-small sim-gate
.PHONY: help run demo test quality fuzz fmt fmt-check clippy doc licences coverage bench bench-quick peers-check \
	instructions allocations bench-recall chitchat eval eval-chats embedder-table clean need-rust

# $(call need-component,SUBCOMMAND,COMPONENT): a part of the toolchain that rustup can add.
define need-component
$(CARGO) $(1) --version >/dev/null 2>&1 \
	|| { command -v rustup >/dev/null && echo "adding $(2) to the toolchain" && rustup component add $(2); } \
	|| { echo "$(2) is missing: rustup component add $(2), or your distribution's package of it" >&2; exit 1; }
endef

help: ## this list
	@echo "Engram: durable episodic memory. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: need-rust ## build and start the server (DATA=./engram-data LISTEN=127.0.0.1:7432)
	$(CARGO) build --release --locked -p engram-cli
	exec "$(TARGET)/release/engram" start --data $(DATA) --listen $(LISTEN)

demo: need-rust ## remember, kill, damage, restart: nothing readable lost, in one minute
	$(CARGO) build --release --locked -p engram-cli
	"$(TARGET)/release/engram" demo

# What tests could not run for want of a tool or a right is said at the end.
test: export ENGRAM_SKIPPED = $(abspath $(TARGET))/skipped-tests
test: need-rust ## all tests, doc tests included
	@mkdir -p "$(TARGET)" && rm -f "$(ENGRAM_SKIPPED)"
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		echo "$(CARGO) nextest run"; \
		$(CARGO) nextest run $(PRODUCT) --locked --no-tests=pass; \
		$(CARGO) nextest run -p engram-sim --locked; \
	else \
		echo "cargo-nextest is not installed, so cargo test it is (slower, the same tests)"; \
		$(CARGO) test $(PRODUCT) --locked --all-targets; \
		$(CARGO) test -p engram-sim --locked --all-targets; \
	fi
	$(CARGO) test --workspace --locked --doc
	$(RACE_TESTS)
	@if [ -e "$(ENGRAM_SKIPPED)" ]; then sort -u "$(ENGRAM_SKIPPED)"; fi

race: need-rust ## threads of the engine interleaved at random, each law for SECONDS=60
	ENGRAM_RACE_SECONDS=$(or $(SECONDS),60) $(RACE_TESTS) -- --nocapture

# The simulator, without optimising links but with every check of a test build.
define run-sim
$(CARGO) build --locked --profile sim -p engram-sim
"$(TARGET)/sim/engram-sim" $(1)
endef

sim: need-rust ## the engine over bad disks: SEED=n, or fresh seeds for SECONDS=60 (ONLY= WITHOUT= TRACE=1)
	$(call run-sim,$(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(SEED)$(SEEDS),$(if $(SECONDS),--seconds $(SECONDS)),--seconds $(or $(SECONDS),60)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT)) $(if $(TRACE),--trace --jobs 1))

sim-small: need-rust ## every workload of up to DEPTH=3 operations, crashed at every call in every way
	$(call run-sim,--small $(or $(DEPTH),3))

# Fresh seeds in the gate, for a fixed time; the kept ones are among the tests. Misdirected writes are
# left to `make sim`: docs/reliability.md (The record) says why.
sim-gate: need-rust
	$(call run-sim,--seconds 30 --without misdirected)

quality: fmt-check clippy test sim-gate instructions doc licences ## every check that a change must pass
	@echo "quality: all checks passed"

fmt: need-rust ## format everything
	$(CARGO) fmt --all
	$(CARGO) fmt $(PEERS)

fmt-check: need-rust
	@$(call need-component,fmt,rustfmt)
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt $(PEERS) -- --check

clippy: need-rust ## lints, warnings denied
	@$(call need-component,clippy,clippy)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --locked -p engram-core --features shuttle --test race_tests -- -D warnings

peers-check: need-rust ## lints and tests of the benchmark beside peers (not in the gate: its build is long)
	@$(call need-component,clippy,clippy)
	$(CARGO) clippy $(PEERS) --all-targets --locked --target-dir "$(TARGET)" -- -D warnings
	$(CARGO) test $(PEERS) --locked --target-dir "$(TARGET)"

doc: need-rust ## the API's documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# The same rules twice: a test of ours reads deny.toml and needs nothing installed; cargo-deny
# says more where it is there. Advisories need its database, which is only looked at when fetched.
licences: need-rust ## licences, sources, banned and doubled crates (deny.toml)
	$(CARGO) test --quiet --locked -p engram-core --test dependency_tests
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --workspace check licenses bans sources; \
		if compgen -G "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then \
			$(CARGO) deny --workspace --offline check advisories; \
		else \
			echo "no advisory database here (cargo deny fetch): advisories not checked"; \
		fi; \
	else \
		echo "cargo-deny is not installed: licences, sources and bans were checked by our own test," \
			"advisories were not (cargo install --locked cargo-deny)"; \
	fi

# libFuzzer, built by the stable toolchain: docs/decisions/0013 says why so.
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')

fuzz: need-rust ## throw bytes at all that reads them (SECONDS=60 each; TARGET=json for one)
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --profile fuzz -p engram-fuzz \
		--features libfuzzer --target $(FUZZ_HOST) --target-dir target/fuzz
	fuzz/run.sh target/fuzz/$(FUZZ_HOST)/fuzz/engram-libfuzzer $(or $(SECONDS),60) \
		$(if $(filter command,$(origin TARGET)),$(TARGET))

kill-test: need-rust ## SIGKILL under 32 clients, 20 times over on one directory, at two segment sizes
	ENGRAM_KILL_ROUNDS=20 $(CARGO) test --locked -p engram-cli --test kill_tests -- --nocapture

flip-test: need-rust ## 1,200 single bits flipped in logs of the real binary, each on its own copy
	ENGRAM_FLIPS=600 $(CARGO) test --locked -p engram-cli --test bit_flip_tests -- --nocapture

recall-test: need-rust ## remember, forget and recall at once, each form for SECONDS=180
	ENGRAM_RECALL_SECONDS=$(or $(SECONDS),180) $(CARGO) test --release --locked -p engram-core \
		--test recall_race_tests -- --nocapture

index-kill-test: need-rust ## SIGKILL while indexes are saved, 60 times; saved indexes hit, at every byte
	ENGRAM_INDEX_KILLS=60 ENGRAM_INDEX_FLIPS=60 $(CARGO) test --locked -p engram-cli \
		--test index_kill_tests -- --nocapture
	ENGRAM_INDEX_EVERY=1 $(CARGO) test --locked -p engram-core --test recall_index_tests -- --nocapture

strace-test: need-rust ## each of the first 24 writes, syncs, renames, … of the binary fails in turn
	ENGRAM_STRACE_CALLS=24 $(CARGO) test --locked -p engram-cli --test strace_tests -- --nocapture

crowd-test: need-rust ## 10,000 idle connections while others go on
	ENGRAM_CROWD=10000 $(CARGO) test --locked -p engram-cli --test socket_tests -- --nocapture --include-ignored

soak: need-rust ## forget 90 % of 200,000 episodes; overwrite the same 10,000 for a long time
	ENGRAM_SOAK=1 $(CARGO) test --release --locked -p engram-cli --test soak_tests -- --nocapture

coverage: need-rust ## what the engine's tests reach of the log's pure files; fails below 98 %
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3" >&2; exit 1; }
	CARGO=$(CARGO) scripts/coverage.py

# $(call run-bench,ARGUMENTS): Engram against its limits, then beside its peers. The second goes on where
# the first could not measure something, and the worse end is the end of both. FEATURES=rocksdb adds it.
define run-bench
$(CARGO) build --release --locked -p engram-cli -p engram-bench
$(CARGO) build $(PEERS) --release --locked --target-dir "$(TARGET)" $(if $(FEATURES),--features $(FEATURES))
end=0; "$(TARGET)/release/engram-bench" $(1) || end=$$?; "$(TARGET)/release/engram-peers" $(1) || end=$$?; exit $$end
endef

bench: need-rust ## measure everything, beside the limit and beside peers (three hours, 40 GB of room; FEATURES=rocksdb)
	$(call run-bench)

bench-quick: need-rust ## the same with small logs and fewer points (minutes)
	$(call run-bench,--quick)

instructions: need-rust ## instructions of hot paths against their bounds (valgrind's callgrind)
	CARGO=$(CARGO) TARGET="$(TARGET)" scripts/instructions.sh

allocations: need-rust ## how many allocations one remember makes in the library
	$(CARGO) run --release --locked -p engram-bench --example allocations

RECALL = target/bench-recall
bench-recall: need-rust ## recall beside PyPI's indexes and stores, and under load (QUICK=1, ONLY=small,load)
	@command -v python3 >/dev/null && command -v c++ >/dev/null || { \
		echo "python3 or a C++ compiler is missing (hnswlib is built): apt-get install python3 python3-dev python3-pip python3-venv g++" >&2; exit 1; }
	$(CARGO) build --release --locked -p engram-cli
	$(CARGO) build --release --locked -p engram-bench --example vector_worker --example recall_load
	test -x $(RECALL)/venv/bin/python || python3 -m venv $(RECALL)/venv
	$(RECALL)/venv/bin/python -m pip install --quiet -r scripts/bench_recall/requirements.txt
	env -u OPENBLAS_NUM_THREADS -u OPENBLAS_CORETYPE $(RECALL)/venv/bin/python \
		scripts/bench_recall/run.py --bin "$(TARGET)/release" $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

EVAL = $(CARGO) run --release --locked -p engram-bench --example eval -- $(if $(DISTRACTORS),--beside $(DISTRACTORS))
eval: need-rust ## how well recall answers: words, vectors, hybrid (SET=folder DISTRACTORS=import.jsonl)
	$(EVAL) $(or $(SET),engram-bench/eval)

eval-chats: need-rust ## the same over real conversations, fetched once: engram-bench/chats
	@command -v python3 >/dev/null || { \
		echo "python3 is missing: apt-get install python3 python3-pip" >&2; exit 1; }
	scripts/chats.py
	$(EVAL) target/chats/choose target/chats/held-out target/chats/unseen

chitchat: ## fetch the chat corpus and turn it into JSONL (target/chitchat/chitchat.jsonl)
	@command -v python3 >/dev/null || { \
		echo "python3 is missing: apt-get install python3 python3-pip" >&2; exit 1; }
	scripts/chitchat.py

# One table for all: who changes the recipe commits what comes out, and names it anew.
EMBEDDER = target/embedder
embedder-table: ## make the built-in embedder's table anew, and say its SHA-256 (needs python3, PyPI)
	@command -v python3 >/dev/null || { \
		echo "python3 is missing: apt-get install python3 python3-pip python3-venv" >&2; exit 1; }
	test -x $(EMBEDDER)/venv/bin/python || python3 -m venv $(EMBEDDER)/venv
	$(EMBEDDER)/venv/bin/python -m pip install --quiet -r scripts/embedder/requirements.txt
	$(EMBEDDER)/venv/bin/python scripts/embedder/build_table.py

clean: ## remove what was built
	$(CARGO) clean

need-rust:
	@command -v $(CARGO) >/dev/null || { \
		echo "cargo is missing. Install a Rust toolchain, 1.95 or newer:" >&2; \
		echo "  https://rustup.rs  (or your distribution's package: apt-get install rustup)" >&2; \
		exit 1; }
	@command -v cc >/dev/null || { \
		echo "a C compiler is missing, Rust links with it and the allocator is built with it:" >&2; \
		echo "  apt-get install gcc libc6-dev  (dnf install gcc, apk add gcc musl-dev)" >&2; \
		exit 1; }
