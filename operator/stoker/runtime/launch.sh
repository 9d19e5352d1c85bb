#!/bin/sh
# launch -- COMMAND [ARGUMENT...]: runs the command of a job in the user's image.
#
# Where the image has Python 3.8 or later this hands over to stoker-agent.pyz. Where it has not, the rest of this
# script does the same with sh, cat and sleep: log to a file, a FIFO that the kernel closes when we die, the exit
# record by rename, and the wait for the seal. Only limits on the log and on scratch, and the watch for progress, need Python.

# The first process of a container ignores a signal that it has no handler for, so this comes first: a stop that comes
# early is remembered.
told=${STOKER_TOLD:-}
unset STOKER_TOLD
trap 'told=TERM' TERM
trap 'told=INT' INT
trap 'told=HUP' HUP
trap 'told=QUIT' QUIT

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
if [ "${STOKER_LAUNCH_WITH:-}" != sh ] &&
	python3 -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
	# A trap ends with us; what GNU's env holds back waits until launch can take it.
	hold="env --block-signal=TERM,INT,HUP,QUIT"
	$hold true 2>/dev/null || hold=
	[ -z "$told" ] || export STOKER_TOLD="$told"
	exec $hold python3 -I "$here/stoker-agent.pyz" launch "$@"
fi
unset STOKER_LAUNCH_WITH

dir=${STOKER_DIR:-/stoker}
wait_for_seal=yes
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	case $1 in
	--dir) dir=$2; shift 2 ;;
	--no-wait) wait_for_seal=; shift ;;
	*) echo "stoker launch: $1 is no option; usage: launch [--dir DIR] [--no-wait] -- COMMAND" >&2; exit 2 ;;
	esac
done
[ $# -gt 1 ] || { echo "stoker launch: no command after --" >&2; exit 2; }
shift

run=$dir/run log=$dir/log/std_log.txt
stoker_pip= stoker_grace=120 stoker_timeout= stoker_distribution=
now() { date -u +%Y-%m-%dT%H:%M:%SZ 2>/dev/null; }
# A JSON file in place by rename: $1 its path, $2 its text.
# On a full disk a reserve of ours is given up for it (layout.py).
put() {
	for reserve in "" "$run/.reserve-1" "$run/.reserve-2" "$run/.reserve-3"; do
		[ -z "$reserve" ] || rm "$reserve" 2>/dev/null || continue
		if (printf '%s\n' "$2" >"$1.new") && mv -f "$1.new" "$1"; then return 0; fi
	done
	return 1
}

[ -p "$run/alive" ] || mkfifo "$run/alive"
# Read and write: opening only for writing would wait for a reader.
exec 9<>"$run/alive"
started=$(now)
put "$run/started" "{\"version\": 1, \"startedAt\": \"$started\", \"pid\": $$}"
: >>"$log"
# A process of another uid opens it anew by its /dev/stdout; the folder keeps others out.
chmod 666 "$log" || echo "stoker launch: only this user's processes can open /dev/stdout anew" >&2
exec 8<"$log"

# The log to our stdout: descriptor 8 keeps the place between two runs of cat.
copy() {
	# Closed in here: `copy 9>&-` would keep a copy of 9 for later, and only this shell may hold the FIFO.
	exec 9>&-
	while [ ! -e "$run/exit.json" ] && kill -0 $$ 2>/dev/null; do
		cat <&8
		sleep 0.1 2>/dev/null || sleep 1
	done
}
copy &
copier=$!

# The numbers in JSON; $1 code or null, $2 signal or null, $3 reason, $4 message (both without quotes or line ends).
finish() {
	reason=null
	[ -z "$3" ] || reason="\"$3\""
	bytes=$(wc -c <"$log" 2>/dev/null | tr -d ' ')
	put "$run/exit.json" "{\"version\": 1, \"code\": $1, \"signal\": $2, \"reason\": $reason, \"message\": \"$4\", \
\"startedAt\": \"$started\", \"finishedAt\": \"$(now)\", \"logBytes\": ${bytes:-0}, \"logTail\": \"\"}"
	# From here on ship sees the end. It reads the exit record after the end-of-file, so the order matters.
	exec 9>&-
	wait "$copier" 2>/dev/null
	cat <&8
	code=$1
	[ "$code" != null ] || code=125
	termination=${STOKER_TERMINATION_LOG:-/dev/termination-log}
	if [ -w "$termination" ]; then
		{ [ -z "$3" ] || printf '%s: %s\n' "$3" "$4"; tail -c 2048 "$log"; } >"$termination" 2>/dev/null
	fi
	[ -n "$wait_for_seal" ] || exit "$code"
	while [ ! -e "$run/sealed" ]; do sleep 0.1 2>/dev/null || sleep 1; done
	case $(cat "$run/sealed") in
	*'"complete": true'*) exit "$code" ;;
	esac
	echo "stoker: the outputs were not saved: $(cat "$run/sealed")" >&2
	exit 125
}

child= stopped= watchdog=
stop() {
	trapped=yes
	[ -n "$stopped" ] || {
		stopped=$1
		put "$run/stopping" "{\"version\": 1, \"reason\": \"$1\", \"at\": \"$(now)\"}"
	}
	[ -n "$child" ] || return 0
	signal_group "$2"
	[ -n "$watchdog" ] || { after "$stoker_grace" signal_group KILL & watchdog=$!; }
}
# After $1 seconds, the rest of the words, unless we are gone by then. In steps, because ending a shell does not end
# the sleep that it waits for.
after() {
	exec >/dev/null 2>&1 8<&- 9>&-
	left=$1
	shift
	while [ "$left" -gt 0 ]; do
		sleep 1
		left=$((left - 1))
		kill -0 $$ || exit
	done
	"$@"
}
# The group when the command has one of its own, else the command alone.
signal_group() { kill "-$1" "-$child" 2>/dev/null || kill "-$1" "$child" 2>/dev/null; }
trap 'stop Stopped TERM' TERM
trap 'stop Stopped INT' INT
trap 'stop Stopped HUP' HUP
trap 'stop Stopped QUIT' QUIT
trap 'stop TimedOut TERM' ALRM
trap 'trapped=yes; [ -z "$child" ] || signal_group USR1' USR1
trap 'trapped=yes; [ -z "$child" ] || signal_group USR2' USR2
[ -z "$told" ] || stop Stopped "$told"

if [ -r "$run/launch.env" ]; then
	. "$run/launch.env"
fi
if [ -n "$stoker_pip" ]; then
	message="the image has no Python 3.8 or later, so none of the packages that the environment names"
	echo "stoker: $message: $stoker_pip" >>"$log"
	finish null null PackagesNotInImage "$message"
fi
if [ -n "$stoker_distribution" ]; then
	message="distribution: $stoker_distribution needs Python 3.8 or later in the image, which has none"
	echo "stoker: $message" >>"$log"
	finish null null BadDistribution "$message"
fi
[ -z "$stopped" ] || finish null null Stopped "told to stop before the command had started"
[ -n "${STOKER_WORK_HERE:-}" ] || cd "$dir/work" || finish null null BadLaunchConfig "there is no working directory"

if [ -n "${STOKER_NO_PROGRESS_SECONDS:-}" ]; then
	echo "stoker: limits.noProgressSeconds needs Python 3.8 or later in the image; nobody watches for progress" >>"$log"
fi

group=
if command -v setsid >/dev/null 2>&1; then group=setsid; fi
# exec: $! is then the command itself, the leader of its group under setsid.
(exec $group "$@") >>"$log" 2>&1 </dev/null 8<&- 9>&- &
child=$!
timer=
if [ -n "$stoker_timeout" ]; then
	after "$stoker_timeout" kill -ALRM $$ &
	timer=$!
fi
# wait returns early, with more than 128, for every signal that a trap took; for a child whose end it has told already
# it says 127.
code=
while :; do
	trapped=
	wait "$child"
	told=$?
	[ "$told" = 127 ] && [ -n "$code" ] || code=$told
	[ -n "$trapped" ] || break
done
[ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null
[ -z "$timer" ] || kill "$timer" 2>/dev/null
# What the command left running.
if kill -TERM "-$child" 2>/dev/null; then
	left=0
	while [ $left -lt 30 ] && kill -0 "-$child" 2>/dev/null; do sleep 0.1 2>/dev/null || { sleep 1; left=$((left + 9)); }; left=$((left + 1)); done
	kill -KILL "-$child" 2>/dev/null
fi

signal=null message=
[ "$code" -le 128 ] || [ "$code" -gt 192 ] || signal=$((code - 128))
case $stopped in
Stopped) message="the run was told to stop" ;;
TimedOut) message="the command ran longer than limits.timeoutSeconds = $stoker_timeout" ;;
esac
finish "$code" "$signal" "$stopped" "$message"
