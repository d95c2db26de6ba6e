#!/usr/bin/env bash
# One node beside its peers; bench/run.sh says what can be set.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

quick=${1:-}
KEYS=${KEYS:-1000000}
KEYS_LARGE=${KEYS_LARGE:-5000000}
SYNC_DELAY_US=${SYNC_DELAY_US:-0}
SERVERS=${SERVERS:-kvnode redis-always redis-none garnet-aof garnet}

garnet_server() {
    local tools=artifacts/bench-tools
    if [ ! -x $tools/garnet-server ]; then
        dotnet tool install --tool-path $tools garnet-server --version 2.2.5 >/dev/null 2>&1 || return 1
    fi
    echo $tools/garnet-server
}

start() { # name
    local name=$1 dir=$work/$1 p=${port[$1]} delay=()
    mkdir -p "$dir"
    if [ "$SYNC_DELAY_US" != 0 ]; then
        delay=(strace -f --seccomp-bpf -o /dev/null -e trace=fdatasync,fsync
               -e "inject=fdatasync,fsync:delay_exit=$SYNC_DELAY_US")
    fi
    case $name in
        kvnode) "${delay[@]}" artifacts/kvnode/kvnode --addr "127.0.0.1:$p" --data "$dir" >"$dir.log" 2>&1 & ;;
        redis-always) "${delay[@]}" redis-server --port "$p" --save "" --appendonly yes --appendfsync always \
            --auto-aof-rewrite-percentage 0 --dir "$dir" >"$dir.log" 2>&1 & ;;
        redis-none) redis-server --port "$p" --save "" --appendonly no --dir "$dir" >"$dir.log" 2>&1 & ;;
        # Its native device needs a newer glibc than Debian 12's.
        garnet-aof) "$garnet" --port "$p" --memory 4g --aof --aof-commit-freq 1000 --device-type RandomAccess \
            --checkpointdir "$dir" >"$dir.log" 2>&1 & ;;
        garnet) "$garnet" --port "$p" --memory 4g >"$dir.log" 2>&1 & ;;
        *) say "bench: no server '$name'"; exit 64 ;;
    esac
    pid[$name]=$!
    until_true "the start of $name" ping_ok "$p"
    if [ "$SYNC_DELAY_US" != 0 ] && [[ $name = kvnode || $name = redis-always ]]; then
        pid[$name]=$(pgrep -P "${pid[$name]}" | head -1)
    fi
}

# What a server holds when it has come to rest; KvNode flushes its write buffer 30 s after the last write at the latest.
settle() { [ "$1" = kvnode ] && sleep 35 || sleep 3; }

workload() { # label requests args...
    local rep name
    for rep in $(seq "$REPS"); do
        for name in $SERVERS; do measure "$name" "$1" redis_load "${port[$name]}" "${@:2}"; done
    done
    say "  $1 done"
}

# Sets restart_ms. Not for a subshell: the new process's number must be kept.
restart() { # name signal
    local began
    stop "$1" "$2"
    began=$(date +%s%N)
    start "$1"
    restart_ms=$((($(date +%s%N) - began) / 1000000))
}

table() {
    awk -F, -v servers="$SERVERS" "$awk_results"'
        END {
            m = split(servers, list, " ")
            printf "| workload |"; for (i = 1; i <= m; i++) printf " %s |", list[i]; print " kvnode / redis-always |"
            printf "|---|"; for (i = 1; i <= m; i++) printf "---|"; print "---|"
            for (l = 1; l <= count; l++) {
                printf "| %s |", labels[l]
                for (i = 1; i <= m; i++) printf " %s |", cell(list[i] SUBSEP labels[l])
                r = ratio("kvnode" SUBSEP labels[l], "redis-always" SUBSEP labels[l])
                if (r) printf " **%.2f** |\n", r; else print " |" } }' "$results"
}

require redis-server redis-server
require redis-benchmark redis-tools
require gcc gcc
[ "$SYNC_DELAY_US" = 0 ] || require strace strace
./build.sh >&2
c_tools
garnet=$(garnet_server) || { say "bench: garnet-server cannot be installed here; left out"
                             SERVERS=$(tr ' ' '\n' <<<"$SERVERS" | grep -v garnet | tr '\n' ' '); }

for name in $SERVERS; do
    port[$name]=$(free_port)
    start "$name"
    load "$name" 0 $((KEYS - 1))
done
say "loaded $KEYS keys into: $SERVERS"

scale=$([ "$quick" = quick ] && echo 5 || echo 1)
random=(-d $VALUE_BYTES -r "$KEYS")
: >"$results"
for op in ${OPERATIONS-set get}; do
    workload "${op^^} -c 50 -P 1" $((150000 / scale)) -t $op -c 50 -P 1 "${random[@]}"
    workload "${op^^} -c 50 -P 16" $((1000000 / scale)) -t $op -c 50 -P 16 "${random[@]}"
    workload "${op^^} -c 50 -P 64" $((1500000 / scale)) -t $op -c 50 -P 64 "${random[@]}"
    workload "${op^^} -c 1 -P 1" $((20000 / scale)) -t $op -c 1 -P 1 "${random[@]}"
done

echo "## Throughput, $KEYS keys of $VALUE_BYTES B, median of $REPS (req/s, p99, server CPU seconds per million)"
echo
table
echo
echo "## Memory and restart"
echo
echo "| server | RSS MiB, $KEYS keys | restart after SIGTERM | restart after kill -9 | RSS MiB, $KEYS_LARGE keys |"
echo "|---|---|---|---|---|"
for name in $SERVERS; do
    settle "$name"
    small=$(memory "${pid[$name]}")
    restart "$name" TERM
    clean=$restart_ms
    restart "$name" KILL
    dirty=$restart_ms
    large=""
    if [ "$quick" != quick ]; then
        load "$name" "$KEYS" $((KEYS_LARGE - 1))
        settle "$name"
        large=$(memory "${pid[$name]}")
    fi
    keys=$(redis-cli -p "${port[$name]}" dbsize)
    echo "| $name | ${small/ / + mapped } | $clean ms | $dirty ms | ${large/ / + mapped } (DBSIZE $keys) |"
    if [ "$name" = kvnode ] && [ "$quick" != quick ]; then
        pivot=$(redis-benchmark -p "${port[$name]}" -n 20000 -c 1 -r "$KEYS_LARGE" --csv \
            KEYS 'key:*' PIVOT key:__rand_int__ LIMIT 100 2>/dev/null | tail -1)
    fi
    [ "$name" = kvnode ] || stop "$name" TERM
done
if [ -n "${pivot:-}" ]; then
    echo
    echo "A PIVOT page of 100 keys out of $KEYS_LARGE, -c 1 (rps, avg, min, p50, p95, p99, max ms): $(cut -d, -f2- <<<"$pivot" | tr -d '"')"
fi
