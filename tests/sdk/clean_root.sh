#!/usr/bin/env bash
# The SDK where nothing but its packages is: installs the Debian packages into a root of debootstrap's, runs the commands
# of docs/first-pass.md there as they are written, then builds and runs the other examples. Takes minutes and some 2 GB
# of downloads, needs root: run it by hand.
#
#   cpack --config build/release/CPackConfig.cmake      makes the packages, build/release/packages/*.deb
#   tests/sdk/clean_root.sh PACKAGES GOLDEN [ROOT]      GOLDEN: build/release/golden; ROOT: kept if it is given
set -euo pipefail
packages=$(realpath "$1") golden=$(realpath "$2")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
if [ $# -gt 2 ]; then root=$3; else root=$(mktemp -d); trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$root"' EXIT; fi

if [ ! -e "$root/etc/debian_version" ]; then
  debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >"$root.log" 2>&1
fi
cat >"$root/etc/apt/sources.list" <<'EOF'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
EOF
cp /etc/resolv.conf "$root/etc/resolv.conf"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
rm -rf "$root/sdk" && mkdir "$root/sdk"
cp "$packages"/*.deb "$root/sdk/"
cp -r "$golden/olmo2" "$golden/granite" "$root/sdk/"
cp "$here/minicpm.cmake" "$root/sdk/"

# The tutorial's commands: what stands between ```sh and ```.
{
  echo 'set -euxo pipefail; cd /sdk; export DEBIAN_FRONTEND=noninteractive'
  awk '/^```sh$/ {on = 1; next} /^```$/ {on = 0} on' "$source/docs/first-pass.md"
  echo 'test $(grep -c "mili.window<64>" ir/00-import.mlir) = 1'
} >"$root/sdk/tutorial.sh"
begin=$SECONDS
chroot "$root" /bin/bash /sdk/tutorial.sh
echo "==> tutorial: $((SECONDS - begin)) s from apt-get to the pass in --dump-phases"

cat >"$root/sdk/examples.sh" <<'EOF'
set -euxo pipefail
cd /sdk
for example in custom-kernel new-architecture embed-runtime; do
  cmake -S /usr/share/mili/examples/$example -B $example
  cmake --build $example
done
run() { mili-run "$1" --tokens 1,2,3,4,5,6,7,8 -n 16 2>/dev/null; }
# The example's kernel computes what MILI's does.
mili-compile olmo2 -q -o plain.mili
mili-compile olmo2 -q -o own.mili --plugin custom-kernel/custom-kernel.so
mili-plan show own.mili | grep norm_add
test "$(run plain.mili)" = "$(run own.mili)"
mili-compile olmo2 -q -o cuda.mili --target cuda:source --plugin custom-kernel/custom-kernel.so --emit-cuda sources
test -e sources/example/norm.cuh
# The example's family is what MILI's Granite is with the same scales.
cmake -DFROM=granite -DTO=minicpm -DREFERENCE=reference -P minicpm.cmake
mili-compile minicpm -q -o minicpm.mili --plugin new-architecture/new-architecture.so
mili-compile reference -q -o reference.mili
test "$(run minicpm.mili)" = "$(run reference.mili)"
./embed-runtime/embed-runtime minicpm.mili 8 1 2 3
./embed-runtime/embed-runtime-cpp minicpm.mili 8 1 2 3
EOF
chroot "$root" /bin/bash /sdk/examples.sh
echo "==> examples: built and run"
