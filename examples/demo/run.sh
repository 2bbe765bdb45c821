#!/bin/sh
# Packs httpie with all it depends on for several Pythons into one file, and runs it: what `make demo` shows.
# Needs packer on PATH. Leaves build/demo/http, which can be copied anywhere.
set -eu
cd "$(dirname "$0")/../.."
out=build/demo
mkdir -p "$out"
# the file is unpacked to a store of its own, so that the first launch is one
store="$PWD/$out/store"
[ ! -d "$store" ] || { chmod -R u+w "$store"; rm -rf "$store"; }
export FATPAR_STORE="$store"

show() {
	printf '\n$ %s\n' "$*"
}

# the interpreters that cp39, cp311 and cp313 stand for, and the one that runs packer, which surely is here
running=$(python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
abis=cp39,cp311,cp313
case ",$abis," in
*,"$running",*) ;;
*) abis=$abis,$running ;;
esac

show packer fat httpie --abis "manylinux2014,$abis" -c http -o "$out/http"
packer fat httpie --abis "manylinux2014,$abis" -c http -o "$out/http"

show "FATPAR=explain $out/http"
FATPAR=explain "$out/http"

show "$out/http --version    (first launch: unpacks)"
"$out/http" --version

show "$out/http GET http://127.0.0.1/..."
python examples/demo/serve.py "$out/http" --ignore-stdin --pretty=none --print=hb
