#!/usr/bin/env bash
# Measures decode and prefill of every size and number format on this machine's GPU, with weights made up in memory, and keeps
# the raw tables. Most of an hour on a fast GPU with the defaults; name sizes, formats or bench's own flags to do less.
# Usage: SIZES="0.6b 8b" FORMATS="q4" bench/run.sh DIRECTORY [-p 2048 -n 128 -d 0,4096 -r 5 ...]
set -euo pipefail
out=${1:?"usage: bench/run.sh DIRECTORY [flags of qwen-wgpu bench]"}
shift
program=$(dirname "$0")/../bin/qwen-wgpu
[ -x "$program" ] || { echo "build it first: make build" >&2; exit 1; }
mkdir -p "$out"
failed=0
for size in ${SIZES:-0.6b 1.7b 4b 8b}; do
  for format in ${FORMATS:-bf16 q8 q4}; do
    file=$out/$size-$format.txt
    echo "# $(date +%F), bench --synth $size --dtype $format $*" >"$file"
    if "$program" bench --synth "$size" --dtype "$format" "$@" >>"$file" 2>&1; then
      grep -E "^(pp|tg)|roofline [0-9]" "$file" | sed "s/^/$size $format  /"
    else
      echo "$size $format failed: $file" >&2
      tail -n 3 "$file" >&2
      failed=1
    fi
  done
done
exit $failed
