#!/usr/bin/env bash
# Installs the Debian packages that the tests need, or names them where this user may not install.
# Usage: scripts/install-deps.sh
set -euo pipefail

# package:file that shows it is there
needed=(
  "mesa-vulkan-drivers:/usr/share/vulkan/icd.d/lvp_icd*.json" # lavapipe, a Vulkan device on the CPU
  "libvulkan1:/usr/lib/*/libvulkan.so.1"                      # the Vulkan loader
  "chromium:/usr/bin/chromium"                                # WebGPU in a browser, on SwiftShader
  "firefox-esr:/usr/bin/firefox-esr"                          # a second browser engine, on lavapipe
)

# Node is not taken from Debian 12, whose release is too old.
if ! node --version 2>/dev/null | grep -qE '^v(2[0-9]|[3-9][0-9])\.' || ! command -v npm >/dev/null; then
  echo "Please install Node.js 20 or later with npm (https://nodejs.org): the page and its tests are built with it" >&2
  exit 1
fi

missing=()
for entry in "${needed[@]}"; do
  package=${entry%%:*}
  compgen -G "${entry#*:}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
  sudo=sudo
fi
if ! command -v apt-get >/dev/null || { [ -n "$sudo" ] && ! command -v sudo >/dev/null; }; then
  echo "Please install: ${missing[*]} (names as on Debian 12)" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
$sudo apt-get update -q
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${missing[@]}"
