#!/bin/bash
# musl.sh TREE SOURCE: make a host of a tree that has nothing but busybox and musl: compile CPython from SOURCE, a tar of
# its sources, against musl, with what musl alone gives. Needs musl-gcc (package musl-tools), make and xz.
set -eu
tree=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jobs=$(nproc)

tar -xJf "$source" -C "$work" --strip-components=1

# The compiler's own word for the C library, which configure believes more than what it finds, is glibc's. The kernel's
# headers are those of this machine; musl has none.
cat >"$work/cc" <<'END'
#!/bin/sh
[ "$1" = --print-multiarch ] && exit 0
exec musl-gcc "$@"
END
chmod +x "$work/cc"
machine=$(gcc -dumpmachine)
cd "$work"
CC="$work/cc" CFLAGS="-g0 -O1 -idirafter /usr/include -idirafter /usr/include/$machine" ./configure \
	--prefix=/usr --disable-test-modules --without-ensurepip --without-static-libpython --with-pkg-config=no
make -j"$jobs"
make install DESTDIR="$work/installed"

rm -rf "$work"/installed/usr/lib/python3.*/{idlelib,turtledemo,tkinter,test} "$work"/installed/usr/lib/python3.*/config-*
find "$work/installed" -name __pycache__ -prune -exec rm -rf {} +
cp -a "$work"/installed/usr/bin/{python3,python3.13} "$tree/usr/bin/"
cp -a "$work/installed/usr/lib/." "$tree/usr/lib/"

mkdir -p "$tree"/{dev,etc,proc,tmp,home,root,run,var/tmp,mnt,opt}
chmod 1777 "$tree/tmp" "$tree/var/tmp"
for name in bin sbin lib; do
	[ -e "$tree/$name" ] || ln -s "usr/$name" "$tree/$name"
done
for name in $("$tree/usr/bin/busybox" --list); do
	[ -e "$tree/usr/bin/$name" ] || ln -s busybox "$tree/usr/bin/$name"
done
echo "127.0.0.1 localhost" >"$tree/etc/hosts"

# what tests/support asks of GNU's, and busybox lacks
rm "$tree"/usr/bin/{env,realpath}
cat >"$tree/usr/bin/env" <<'END'
#!/bin/busybox sh
case $1 in
--chdir=*)
	cd "${1#*=}" || exit 125
	shift
	;;
esac
exec /bin/busybox env "$@"
END
cat >"$tree/usr/bin/realpath" <<'END'
#!/bin/busybox sh
while [ "${1#-}" != "$1" ]; do shift; done
/bin/busybox realpath "$1" 2>/dev/null || echo "$1"
END
chmod 755 "$tree"/usr/bin/{env,realpath}
