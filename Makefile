# Short names for people; the build itself is CMake (CMakeLists.txt, CMakePresets.json).
#
#   make                 release build: programs in build/bin, library in build/lib
#   make setup           install the packages that are missing
#   make run [NODES=n]   start one node (or n, wired together) on this machine, until Ctrl-C
#   make test            everything: unit, property, fuzz-corpus and end-to-end tests, layering
#   make test-kvs        the store's tests only
#   make test-sync       nodes that converge [NODES=2 TIMEOUT=30 SETTLE_MS=2000]
#   make interop         mixed clusters with Rust iroh peers (builds those with cargo)
#   make bench           the performance table
#   make soak HOURS=n    the long versions of the tests, recorded in docs/soak.md
#   make coverage        lines and branches of docs, kv, store and wire that their tests reach
#   make format lint     clang-format; clang-tidy and cppcheck
#   make install         [PREFIX=/usr/local] [DESTDIR=]
#   make clean

PREFIX ?= /usr/local
NODES ?=
TIMEOUT ?= 30
SETTLE_MS ?= 2000
HOURS ?= 1
export TIMEOUT SETTLE_MS HOURS

build: build/build.ninja
	cmake --build build

build/build.ninja: CMakeLists.txt
	cmake --preset release

setup:
	scripts/setup build

run:
	scripts/setup build
	@$(MAKE) --no-print-directory build
	scripts/run $(or $(NODES),1)

test: test-setup
	@$(MAKE) --no-print-directory build
	ctest --test-dir build -j $(shell nproc) --no-tests=error --output-on-failure

test-kvs: test-setup
	@$(MAKE) --no-print-directory build
	ctest --test-dir build -j $(shell nproc) --no-tests=error --output-on-failure --label-regex '^(store|docs|blobs|kv|node)$$'

test-sync: test-setup
	@$(MAKE) --no-print-directory build
	NODES=$(or $(NODES),2) tests/e2e/test_sync

# A build made before the test packages were there has no tests: configure again.
test-setup:
	scripts/setup test
	@grep -qs 'CMOCKA_FOUND:INTERNAL=1' build/CMakeCache.txt || rm -f build/CMakeCache.txt build/build.ninja

interop: test-setup
	@$(MAKE) --no-print-directory build
	tests/interop/run

bench: test-setup
	scripts/setup bench
	@$(MAKE) --no-print-directory build
	tests/bench/run

soak: test-setup
	scripts/setup soak
	@$(MAKE) --no-print-directory build
	scripts/soak

coverage:
	scripts/setup ci
	scripts/coverage

format:
	scripts/format

lint:
	scripts/lint

install: build
	cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-*

.PHONY: build setup run test test-kvs test-sync test-setup interop bench soak coverage format lint install clean
