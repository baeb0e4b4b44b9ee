#!/bin/sh
# Runs one command and keeps its record: `started` when it began, `exit` with its exit code when it ended, `log` with
# what it printed; the instants are the files' times. Told to end (TERM, INT or HUP), it tells the command by TERM.
#
# Arguments: the record's folder; the folder to run in, or "" for the present one; the command, word by word.
# It is a shell script because a Python process here would add its own start time to every run's.
record=$1 folder=$2
shift 2

# A record that was removed meanwhile belongs to a run that was given up: nothing of it may begin any more.
[ -d "$record" ] || exit 70
exec </dev/null >>"$record/log" 2>&1

child= told= woken=
tell() {
    woken=1
    true 2>/dev/null >"$record/asked"
    if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; told=1; fi
}
trap tell TERM INT HUP

# Whole or not at all: a record that is there can be believed.
finish() { printf '%s\n' "$1" >"$record/exit.tmp" && mv -f "$record/exit.tmp" "$record/exit"; exit "$1"; }

# The first keeper of a run creates the file; any other finds it there and leaves.
set -C
true 2>/dev/null >"$record/started" || exit 75
set +C

if [ -n "$folder" ]; then cd "$folder" || finish 126; fi

# A background command ignores interrupts where the shell has no job control; `env --default-signal`, put before the
# command where there is one, mends the rest. Just after its fork the child still has the keeper's traps and would
# lose a signal: hence it looks for the file, which is there before any signal is sent.
set -m 2>/dev/null
{ [ -e "$record/asked" ] && exit 143; exec "$@"; } &
child=$!
set +m 2>/dev/null
if [ -n "$woken" ] && [ -z "$told" ]; then tell; fi

# A signal ends a `wait` early, with a code that is not the command's; 127 afterwards means that it is known already.
code=
while :; do
    woken=
    wait "$child"
    status=$?
    if [ "$status" = 127 ] && [ -n "$code" ]; then break; fi
    code=$status
    [ -n "$woken" ] || break
done
finish "$code"
