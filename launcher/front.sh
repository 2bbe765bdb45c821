#!/bin/sh
# A Python program for several machines in one file, packed by fatpar. The launcher for each of them is further down in
# this very file; this text starts the right one, from a store of the user's if it is kept there. FORMAT.md, section 3.1.
# What a shell needs beside itself: uname, and where no launcher is kept yet mktemp, dd, chmod and rm.
# shellcheck disable=SC3013,SC3067 # test -O, -nt, -ot and -ef: dash, bash, busybox, ksh and zsh have them

# of each machine: what uname -m calls it; its launcher's digest, and where that is in this file
fatpar_launchers=''

# speak under the program's name
fatpar_fail() {
	printf '%s: %s\n' "${0##*/}" "$2" ${3+"${0##*/}" "hint: $3"} >&2
	exit "$1"
}

# MACHINE [NAME DIGEST OFFSET SIZE]...: choose a launcher
fatpar_choose() {
	fatpar_machine=$1 fatpar_known=
	shift
	while [ $# -ge 4 ]; do
		fatpar_digest=$2 fatpar_offset=$3 fatpar_size=$4
		[ "$1" = "$fatpar_machine" ] && return
		fatpar_known="$fatpar_known${fatpar_known:+ and }$1"
		shift 4
	done
	return 1
}

# STORE: whether a launcher is kept there by this user, in directories of this user, and was not written to since. That costs
# no process. The launcher's own code, which makes all of it, asks more of a store before it puts one there.
fatpar_kept() {
	fatpar_launcher=$1/v1/launchers/$fatpar_digest fatpar_time=$1/v1/launchers/time
	[ "${1#/}" != "$1" ] && [ -x "$fatpar_launcher" ] && [ -O "$fatpar_launcher" ] && [ -O "$1/v1/launchers" ] &&
		[ -O "$1/v1" ] && [ -O "$1" ] && [ ! -h "$1" ] && [ -O "$fatpar_time" ] &&
		[ ! "$fatpar_launcher" -nt "$fatpar_time" ] && [ ! "$fatpar_launcher" -ot "$fatpar_time" ]
}

# look for the launcher that was chosen in the stores that section 8.6 has
fatpar_find() {
	fatpar_kept "${FATPAR_STORE-}" || fatpar_kept /var/lib/fatpar ||
		fatpar_kept "${XDG_CACHE_HOME-}${XDG_CACHE_HOME:+/fatpar}" || fatpar_kept "${HOME-}${HOME:+/.cache/fatpar}" ||
		fatpar_kept "${XDG_RUNTIME_DIR-}${XDG_RUNTIME_DIR:+/fatpar}" && return
	for fatpar_base in /var/tmp/fatpar-* /dev/shm/fatpar-*; do
		fatpar_kept "$fatpar_base" && return
	done
	return 1
}

# unpack the launcher to where it can be executed, and print its path; it removes itself when it is started
fatpar_unpack() {
	PATH=/usr/bin:/bin:${PATH-}
	umask 077
	fatpar_tried=
	for fatpar_place in "${TMPDIR-}" /tmp /var/tmp /dev/shm "${XDG_RUNTIME_DIR-}" "${HOME-}"; do
		# where others can rename what they do not own, they could put something else there
		[ "${fatpar_place#/}" != "$fatpar_place" ] || continue
		if [ ! -O "$fatpar_place" ] && [ ! -k "$fatpar_place" ]; then
			fatpar_why='is not for everybody'
		elif fatpar_directory=$(mktemp -d "$fatpar_place/.fatpar-XXXXXX"); then
			trap 'rm -rf "$fatpar_directory"' EXIT
			trap 'exit 125' HUP INT TERM
			if dd if="$0" of="$fatpar_directory/launcher" bs=4096 "skip=$((fatpar_offset / 4096))" "count=$((fatpar_size / 4096))"; then
				chmod 700 "$fatpar_directory/launcher"
				"$fatpar_directory/launcher" check "$fatpar_digest"
				case $? in
				0)
					trap - EXIT HUP INT TERM
					printf %s "$fatpar_directory/launcher"
					exit 0
					;;
				126) fatpar_why='does not allow execution' ;;
				*) exit 1 ;;
				esac
			else
				fatpar_why='has no room'
			fi
			rm -rf "$fatpar_directory"
		else
			fatpar_why='cannot be written to'
		fi
		fatpar_tried="$fatpar_tried${fatpar_tried:+, }$fatpar_place $fatpar_why"
	done
	printf %s "$fatpar_tried"
	exit 2
}

fatpar_start() {
	fatpar_machine=
	# without a process where the kernel tells it, unless an emulator executes this shell: then it is another machine
	# shellcheck disable=SC2086 # they are words
	if [ /proc/self/exe -ef /bin/sh ] && { read -r fatpar_machine </proc/sys/kernel/arch; } 2>/dev/null &&
		fatpar_choose "$fatpar_machine" $fatpar_launchers && fatpar_find; then
		exec "$fatpar_launcher" run "$0" "$@"
	fi
	fatpar_machine=$(PATH=/usr/bin:/bin:${PATH-} && uname -m)
	# shellcheck disable=SC2086
	fatpar_choose "$fatpar_machine" $fatpar_launchers ||
		fatpar_fail 126 "this machine is ${fatpar_machine:-not known, since there is no uname}, and it was packed for $fatpar_known"
	if fatpar_find; then
		exec "$fatpar_launcher" run "$0" "$@"
	fi
	[ -r "$0" ] || fatpar_fail 125 "open the program's own file: $0 cannot be read"
	fatpar_launcher=$(fatpar_unpack </dev/null 2>/dev/null)
	case $? in
	0) exec "$fatpar_launcher" once "$0" "$@" ;;
	2)
		fatpar_fail 125 "no directory to unpack its launcher to: $fatpar_launcher" \
			'set TMPDIR to a directory of your own, on a filesystem with room that is not mounted noexec'
		;;
	esac
	fatpar_fail 125 'archive is damaged: the launcher in it does not work, or the file was replaced when it was started' 'start it again, or get it again'
}

# a shell reads on from what it has read: what follows is no text, and must not be reached
# shellcheck disable=SC2317
{ fatpar_start "$@"; exit 127; }
