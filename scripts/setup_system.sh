#!/bin/sh
# Debian's packages that some tests can use. Never fails: tests that miss one are skipped, and say so.
wanted="postgresql chromium prometheus prometheus-alertmanager strace"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "setup-system: nothing to do; present: $wanted"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup-system: no apt-get here; install by hand what you want tested:$missing"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup-system: not root; run: sudo apt-get install$missing"
    exit 0
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null >"$log" 2>&1 || echo "setup-system: apt-get update failed: $(tail -n 1 "$log")"
for package in $missing; do
    if apt-get install -y -qq --no-install-recommends "$package" </dev/null >"$log" 2>&1; then
        echo "setup-system: installed $package $(dpkg-query -W -f '${Version}' "$package")"
    else
        echo "setup-system: could not install $package: $(grep -E '^E:' "$log" | head -n 1)"
    fi
done
rm -f "$log"
exit 0
