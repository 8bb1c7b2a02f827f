#!/usr/bin/env bash
# Counts the instructions of hot paths, and holds them against engram-bench/instructions.txt.
# Where there is no valgrind it is installed, if that may be done without asking (as root, as in CI);
# else this says so and passes: who has it will find out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(uname -sm)" != "Linux x86_64" ]; then
	echo "instructions: the bounds are of Linux on x86-64, not checked on $(uname -sm)"
	exit 0
fi

install_valgrind() {
	[ "$(id -u)" = 0 ] || return 1
	echo "valgrind is missing: installing it, if it can be had"
	if command -v apt-get >/dev/null; then
		apt-get install -y --no-install-recommends valgrind \
			|| { apt-get update && apt-get install -y --no-install-recommends valgrind; }
	elif command -v dnf >/dev/null; then
		dnf install -y valgrind
	elif command -v apk >/dev/null; then
		apk add valgrind
	else
		return 1
	fi
}

if ! command -v valgrind >/dev/null && ! install_valgrind; then
	echo "instructions: valgrind is missing and could not be installed, so they are not counted here:" \
		"apt-get install valgrind (dnf install valgrind, apk add valgrind)"
	exit 0
fi

# The simulator's profile: the gate has built what this depends on already, and it keeps symbols.
${CARGO:-cargo} build --locked --profile sim -p engram-bench --bin instructions
exec "${TARGET:-target}/sim/instructions" engram-bench/instructions.txt
