#!/bin/sh
# Packs report.py for all the hosts of hosts.toml, and runs it on all of them: what `make matrix` shows.
# Needs packer on PATH, and the host roots of `make hosts` (in $FATPAR_TEST_HOSTS, if they are not in .cache/hosts).
# Leaves in build/matrix: report, the program; matrix.json, matrix.html and matrix.xml, what was seen.
set -eu
cd "$(dirname "$0")/../.."
out=build/matrix
mkdir -p "$out"

hosts=$(realpath "${FATPAR_TEST_HOSTS:-.cache/hosts}")
ln -sfn "$hosts" "$out/hosts"
for suite in bullseye trixie; do
	ln -sf "$hosts/kernel-$suite/root/boot"/vmlinuz-* "$out/vmlinuz-$suite"
done

show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

show packer fat examples/matrix/report.py -r examples/matrix/requirements.txt \
	--abis manylinux2014,cp315,cp314,cp313,cp311,cp39,cp27mu,cp313-musllinux_1_2 \
	--runtime "cp311=$out/hosts/bookworm/root/usr/bin/python3.11" -o "$out/report"

printf '\n$ packer matrix %s --run examples/matrix/hosts.toml --json >%s\n' "$out/report" "$out/matrix.json"
status=0
packer matrix "$out/report" --run examples/matrix/hosts.toml --html "$out/matrix.html" --junit "$out/matrix.xml" \
	--json >"$out/matrix.json" || status=$?
[ ! -s "$out/matrix.json" ] || show packer matrix --merge "$out/matrix.json" || :
exit "$status"
