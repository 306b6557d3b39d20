#!/usr/bin/env bash
# Chromium for the tests that open the report in a browser: nothing where there is one, Debian's
# package where we may install it, else a word on what to do.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [[ -n ${CHROMIUM:-} ]]; then exit 0; fi
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "error: no Chromium here; install it (Debian: apt-get install chromium) or name one in CHROMIUM" >&2
  exit 1
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null
