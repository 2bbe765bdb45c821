#!/bin/bash
# enter.sh REPORT PLACE LOWER STATE USER HOME UMASK [bind FROM TO | tmpfs OPTIONS TO]... -- COMMAND...
#
# Become COMMAND, as user and group USER, in the root filesystem LOWER under an overlay. Runs as root in a mount
# namespace of its own ("unshare --mount"), so that every mount ends with COMMAND; always by exec, so that COMMAND has
# the pid that was started. What is written goes to the directory STATE, or nowhere when that is empty. PLACE is a
# directory to mount on. The file descriptor REPORT receives "entered", or else the error, and is closed.
set -eu
umask 022
report=$1 place=$2 lower=$3 state=$4 user=$5 home=$6 mask=$7
shift 7
exec {stderr}>&2 2>&"$report"

# Run a command in the root, as a user.
as() {
	chroot --userspec="+$1:+$1" --groups= root "${@:2}"
}

# Make a mount point for a directory or a file. Below the user's home it is the user's, and so is all that leads to it.
point() {
	local owner=0
	case $2 in "$home"/*) owner=$user ;; esac
	if [ -d "$1" ]; then
		as "$owner" mkdir -p -- "$2"
	elif ! [ -e "root$2" ]; then
		as "$owner" mkdir -p -- "$(dirname -- "$2")"
		as "$owner" touch -- "$2"
	fi
}

# Lay the overlay. Names are relative because a comma or colon in a path would end it in the options of mount; "index"
# makes the kernel refuse a state that another overlay is using, which would harm both.
overlay() {
	mount -t tmpfs -o mode=755 fatpar "$place"
	cd "$place"
	mkdir lower root state
	mount --bind -- "$lower" lower
	[ -z "$state" ] || mount --bind -- "$state" state
	mkdir -p state/upper state/work
	mount -t overlay -o lowerdir=lower,upperdir=state/upper,workdir=state/work,index=on fatpar root || {
		[ -z "$state" ] || echo "is $state in use? a state takes one run at a time"
		return 1
	} >&2
}

# The part of /dev that programs expect. Not the machine's own: what a test leaves in /dev/shm is to go with it.
devices() {
	local name
	mount -t tmpfs -o mode=755 fatpar root/dev
	for name in null zero full random urandom tty; do
		touch "root/dev/$name"
		mount --bind "/dev/$name" "root/dev/$name"
	done
	mkdir -m 1777 root/dev/shm
	ln -s /proc/self/fd root/dev/fd
	for name in stdin:0 stdout:1 stderr:2; do
		ln -s "/proc/self/fd/${name#*:}" "root/dev/${name%:*}"
	done
}

overlay
# A container may be denied a proc of its own; then it has one that can be shared.
mount -t proc fatpar root/proc 2>/dev/null || mount --rbind /proc root/proc
devices
[ -e "root$home" ] || install -d -o "$user" -g "$user" -m 755 "root$home"
while [ "$1" != -- ]; do
	to=$(as 0 realpath -m -- "$3") # a link in the root would lead out of it
	case $1 in
	bind)
		point "$2" "$to"
		mount --bind -- "$2" "root$to"
		;;
	tmpfs)
		point / "$to"
		mount -t tmpfs -o "uid=$user,gid=$user,$2" fatpar "root$to"
		;;
	esac
	shift 3
done
shift
umask "$mask"
echo entered >&2
exec 2>&"$stderr" {stderr}>&- {report}>&-
exec chroot --userspec="+$user:+$user" --groups= root "$@"
