#!/usr/bin/env bash
# Runs libFuzzer on each target: run.sh BINARY SECONDS [TARGET]
# What it learns goes to target/fuzz/corpus, what breaks a law to target/fuzz/broken.
set -euo pipefail
binary=$(realpath "$1") seconds=$2 only=${3:-}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
targets=$(cd fuzz/corpus && ls)
if [[ -n $only && ! -d fuzz/corpus/$only ]]; then
	echo "no target $only; there are:" $targets >&2
	exit 2
fi
failed=()
for target in ${only:-$targets}; do
	learnt=target/fuzz/corpus/$target broken=target/fuzz/broken/$target
	mkdir -p "$learnt" "$broken"
	echo "== $target, $seconds seconds"
	ENGRAM_FUZZ_TARGET=$target "$binary" "$learnt" "fuzz/corpus/$target" -max_len=32768 -timeout=10 \
		-rss_limit_mb=2048 -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
		-artifact_prefix="$broken/" || failed+=("$target")
done
if ((${#failed[@]})); then
	echo "laws were broken by: ${failed[*]}; the inputs are in target/fuzz/broken;" \
		"run one again with: cargo run -p engram-fuzz --bin engram-fuzz -- run TARGET FILE" >&2
	exit 1
fi
