#!/bin/sh
# The tests of tally, written for the C++ program: sh tests.sh PATH-OF-TALLY. They know nothing of what it is written in.
set -u
case $1 in */*) tally=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") ;; *) tally=$1 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

# is WHAT EXPECTED FOUND
is() {
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'failed: %s\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3"
	fi
}

printf 'GET /a 200\nGET /b 404\nPUT /a 200\n\n' >log
printf 'GET /c 500' >unended

# what it prints
is 'first field' "$(printf '2\tGET\n1\tPUT')" "$("$tally" log)"
is 'third field' "$(printf '2\t200\n1\t404')" "$("$tally" -k 3 log)"
is 'option behind the file' "$(printf '2\t/a\n1\t/b')" "$("$tally" log -k2)"
is 'no such field' '' "$("$tally" -k 9 log)"
is 'several files, no line end' "$(printf '3\tGET\n1\tPUT')" "$("$tally" log unended)"
is 'standard input' "$(printf '2\tGET\n1\tPUT')" "$("$tally" <log)"
is 'blanks and tabs' "$(printf '1\tb')" "$(printf ' a \t  b c\n' | "$tally" -k 2)"
is 'bytes that are no text' "$(printf '1\t\377\376\v!b')" "$(printf '\377\376\v\0b x\n' | "$tally" | tr '\0' '!')"
is 'file of an odd name' "$(printf '1\tx')" "$(printf 'x\n' >'odd
name' && "$tally" 'odd
name')"
is 'nothing' '' "$("$tally" </dev/null)"
is 'version' 'tally 1.4' "$("$tally" --version)"

# exit status and errors
"$tally" log >out 2>err
is 'status' '0 ' "$? $(cat err)"
"$tally" none log >out 2>err
is 'missing file' '1 tally: none: No such file or directory' "$? $(cat err)"
is 'the others are counted' "$(printf '2\tGET\n1\tPUT')" "$(cat out)"
"$tally" "$(printf 'odd\377')" >out 2>err
is 'missing file of an odd name' "1 tally: $(printf 'odd\377'): No such file or directory" "$? $(cat err)"
"$tally" -k none log >out 2>err
is 'wrong option' '2 usage: tally [-k FIELD] [FILE...]' "$? $(cat err)"
"$tally" -x >out 2>err
is 'unknown option' '2 usage: tally [-k FIELD] [FILE...]' "$? $(cat err)"
"$tally" . >out 2>err
is 'directory' '1 tally: .: Is a directory' "$? $(cat err)"
if [ -w /dev/full ]; then
	"$tally" log >/dev/full 2>err
	is 'full disk' '1 tally: standard output: No space left on device' "$? $(cat err)"
fi

# signals. A fifo keeps it reading, and holds 64 KiB: who could write more empty lines, which are not counted, knows that
# what came before them was
mkfifo fifo
"$tally" fifo >out 2>err & pid=$!
exec 3>fifo
printf 'a\nb\na\n' >&3
head -c 200000 /dev/zero | tr '\0' '\n' >&3
is 'name' 'tally' "$(cat /proc/$pid/comm)"
is 'command line' "$tally fifo " "$(tr '\0' ' ' </proc/$pid/cmdline)"
if command -v ps >/dev/null; then
	is 'ps' "tally $tally fifo" "$(ps -o comm= -o args= -p $pid | tr -s ' ')"
fi
kill -INT $pid
wait $pid
is 'SIGINT' "130 $(printf '2\ta\n1\tb')" "$? $(cat out)"
exec 3>&-
"$tally" fifo >out 2>err & pid=$!
exec 3>fifo
kill -TERM $pid
wait $pid 2>/dev/null # the shell would say so
is 'SIGTERM' '143 ' "$? $(cat out)"
exec 3>&-
awk 'BEGIN { for (i = 0; i < 200000; i++) print i }' >many
("$tally" many; echo $? >status) | head -n 1 >/dev/null
is 'reader that goes away' '141' "$(cat status)"

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
