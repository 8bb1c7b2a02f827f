#!/usr/bin/env bash
# Checks a live scrape of Engram's metrics with promtool.
#
#   scripts/check-metrics.sh [URL]      URL: http://127.0.0.1:7432/metrics if left out
#
# Exits 0 when promtool has nothing to complain about, 1 when it has, 2 when there is nothing to
# check. Without promtool it says so and exits 0, or 2 with ENGRAM_REQUIRE_PROMTOOL=1.
set -euo pipefail

url=${1:-http://127.0.0.1:7432/metrics}

if ! command -v promtool >/dev/null; then
    echo "skipped: promtool is not installed (apt-get install prometheus, or brew install prometheus)" >&2
    [ "${ENGRAM_REQUIRE_PROMTOOL:-0}" = 1 ] && exit 2
    exit 0
fi
if ! command -v curl >/dev/null; then
    echo "curl is not installed (apt-get install curl)" >&2
    exit 2
fi

scrape=$(mktemp)
trap 'rm -f "$scrape"' EXIT
if ! curl --silent --show-error --fail --max-time 10 --output "$scrape" "$url"; then
    echo "no scrape from $url: is the server running (make run)?" >&2
    exit 2
fi
if ! grep -q '^engram_' "$scrape"; then
    echo "$url answered without one engram_ series" >&2
    exit 1
fi

# promtool warns on stderr or stdout and exits 3 on lint findings; any word from it is a failure.
if complaints=$(promtool check metrics <"$scrape" 2>&1) && [ -z "$complaints" ]; then
    echo "promtool has no complaint about $(grep -c '^engram_' "$scrape") samples from $url"
else
    printf '%s\n' "$complaints" >&2
    exit 1
fi
