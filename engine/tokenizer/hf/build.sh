#!/bin/sh
# Builds build/lib/libtokenizers.a, the Rust library behind engine/tokenizer/hf.
#
# The Rust source lies in the Go module github.com/daulet/tokenizers (its version is go.mod's); cargo builds it from published
# crates, with the lock file that comes with it. Needs cargo, a C and a C++ compiler. Then:
#   go test -tags hftokenizers ./engine/tokenizer/hf
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
cd "$root"

module=github.com/daulet/tokenizers
go mod download "$module"
version=$(go list -m -f '{{.Version}}' "$module")
source=$(go list -m -f '{{.Dir}}' "$module")
lib=$root/build/lib/libtokenizers.a
stamp=$root/build/lib/libtokenizers.version

if [ -f "$lib" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
	echo "$lib is up to date ($version)"
	exit 0
fi

work=$root/build/hf/$version
mkdir -p "$work/src" "$work/benches" "$root/build/lib"
cp -f "$source/Cargo.toml" "$source/Cargo.lock" "$work/"
cp -f "$source"/src/*.rs "$work/src/"
cp -f "$source"/benches/*.rs "$work/benches/" # Cargo.toml names them; they are not built
chmod -R u+w "$work"

cargo build --manifest-path "$work/Cargo.toml" --release --locked --lib --target-dir "$root/build/hf/target"

cp -f "$root/build/hf/target/release/libtokenizers.a" "$lib.tmp"
mv -f "$lib.tmp" "$lib"
echo "$version" >"$stamp"
echo "$lib ($version)"
