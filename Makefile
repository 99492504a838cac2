# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both install what they need first, or say which line installs it (scripts/install-needs.sh, exit 3).

# rustup's own place, for a shell that has not been opened anew since Rust was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo test needs lint docs fuzz bench corpora slow-clients clean

help:
	@echo 'make demo     a throw-away PostgreSQL, the gate before it, a tour of reads and attacks'
	@echo 'make test     every test'
	@echo 'make lint     format and clippy, warnings are errors'
	@echo 'make docs     the documentation of the code, warnings are errors'
	@echo 'make fuzz     every fuzz target for a minute'
	@echo 'make bench    the micro benchmarks'
	@echo 'make corpora  the attack and read corpora, if they are in ../shared'
	@echo 'make slow-clients  what slowhttptest costs a normal client of the JIRA gate'
	@echo 'make clean    removes what was built'

needs:
	@scripts/install-needs.sh

demo: needs
	cargo run --locked --release -- demo

# nextest gives each test a process of its own; it does not run documentation tests.
test: needs
	@if cargo nextest --version >/dev/null 2>&1; then \
	  echo 'cargo nextest run --locked' && cargo nextest run --locked && \
	  echo 'cargo test --locked --doc' && cargo test --locked --doc; \
	else \
	  echo 'cargo test --locked' && cargo test --locked; \
	fi

lint: needs
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings

docs: needs
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

fuzz: needs
	fuzz/run.sh

bench: needs
	cargo bench --locked --bench postgres

corpora: needs
	scripts/corpora.sh

slow-clients: needs
	cargo build --locked --release
	scripts/slow_clients.py

clean:
	cargo clean
