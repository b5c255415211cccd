# SPDX-License-Identifier: BSD-2-Clause
# The front door. Meson does the work; each target first installs what is missing (scripts/setup).
#
#   make run [ARGS="--memory 512M"]   boot Debian's kernel on umbra
#   make test                         everything, in three builds
#   make check-guests [ARGS="NAME..."] every guest, Debian's too, shadow and nested; docs/machine.md
#   make mutants                      faults put in one by one, each to be noticed by a named test
#   make check-long [STEPS=100000000] every combination, random guests; hours: docs/testing.md
#   make soak [MINUTES=10] [SEED=N]   guests at work while all of a host's operations go over them
#   make fuzz [SECONDS=60]            the fuzz targets, so long each; see docs/testing.md
#   make bench                        every benchmark of bench/
#   make bench-rmap                   the reverse map beside KVM's, about 6 minutes
#   make bench-kvm                    the whole system beside Linux KVM's shadow and nested paging
#   make install [DESTDIR=] [PREFIX=/usr/local]
#   make format / lint / clean

PREFIX ?= /usr/local
BUILD = build
MESON_FLAGS =
SECONDS = 60
STEPS = 100000000
MINUTES = 10
SEED =
BATCH := $(shell [ -t 0 ] || echo --batch)

.PHONY: all setup build run test check-guests check-long mutants soak fuzz bench bench-rmap bench-kvm install clean format lint

all: build

setup:
	@scripts/setup run

build: setup
	@scripts/build $(BUILD) $(MESON_FLAGS)

run: build
	@$(BUILD)/cli/umbra run --compare --stats $(BUILD)/run.json $(BATCH) $(ARGS)

test:
	@scripts/setup test
	@scripts/test

check-guests:
	@scripts/setup guests
	@scripts/check-guests $(ARGS)

check-long:
	@scripts/setup test
	@STEPS="$(STEPS)" scripts/check-long

mutants:
	@scripts/setup test
	@scripts/mutants

soak: build
	@scripts/soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

fuzz:
	@scripts/setup fuzz
	@scripts/fuzz --seconds $(SECONDS)

bench:
	@scripts/setup bench
	@scripts/bench

bench-kvm:
	@scripts/setup bench-kvm
	@scripts/bench-kvm

bench-rmap:
	@scripts/setup bench
	@scripts/bench rmap
	@scripts/plot-rmap

# Its own build directory: the prefix is compiled into umbra.pc.
install:
	@scripts/setup run
	@scripts/build build-install --prefix=$(PREFIX) -Ddebug=false -Doptimization=2
	@DESTDIR="$(DESTDIR)" meson install -C build-install --quiet
	@echo "installed under $(DESTDIR)$(PREFIX)"

format:
	@scripts/setup lint
	@scripts/sources | xargs clang-format -i

lint:
	@scripts/setup lint
	@scripts/lint

clean:
	rm -rf build build-*
