#!/usr/bin/env bash
# KvNode beside its peers, in one run, interleaved: bench/run.sh [quick]
#
# Prints throughput, p99 and server CPU of SET and GET, memory at 1 M and 5 M keys, restart times and the time of a
# PIVOT page, with ratios to redis-server. Needs redis-server, redis-tools and gcc (installed when run as root);
# garnet-server comes from NuGet and is left out, with a line that says so, where it cannot be had.
#
#   REPS=3            repetitions; the median is printed
#   SERVERS="..."     which of: kvnode redis-always redis-none garnet-aof garnet
#   GATE_NS=150       a repetition counts only between two cache-line round trips below this (0 = no gate)
#   SYNC_DELAY_US=0   adds this to every fsync of every server (needs strace)
#   KEYS=1000000 KEYS_LARGE=5000000
#   OPERATIONS="set get"   empty: memory and restart times only
set -euo pipefail
cd "$(dirname "$0")/.."

quick=${1:-}
REPS=${REPS:-3}
KEYS=${KEYS:-1000000}
KEYS_LARGE=${KEYS_LARGE:-5000000}
GATE_NS=${GATE_NS:-150}
SYNC_DELAY_US=${SYNC_DELAY_US:-0}
SERVERS=${SERVERS:-kvnode redis-always redis-none garnet-aof garnet}
VALUE_BYTES=100
work=$(mktemp -d)
results=$work/results.csv
declare -A pid port

say() { printf '%s\n' "$*" >&2; }

require() { # command package
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq "$2" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$2" >/dev/null; }
    fi
    command -v "$1" >/dev/null || { say "bench: '$1' is missing: apt-get install $2"; exit 69; }
}

cleanup() {
    local name
    for name in "${!pid[@]}"; do kill "${pid[$name]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

free_port() {
    local p
    while :; do
        p=$((20000 + RANDOM % 10000)) # below the ports the system gives to clients
        (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; }
    done
}

ping_ok() { # port
    local answer=''
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'PING\r\n' >&3
    IFS= read -r -t 1 answer <&3 || true
    exec 3>&- 3<&-
    [ "${answer%$'\r'}" = "+PONG" ]
}

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
    for _ in $(seq 1500); do
        ping_ok "$p" && break
        sleep 0.01
    done
    ping_ok "$p" || { say "bench: $name did not start:"; tail -5 "$dir.log" >&2; exit 70; }
    if [ "$SYNC_DELAY_US" != 0 ] && [[ $name = kvnode || $name = redis-always ]]; then
        pid[$name]=$(pgrep -P "${pid[$name]}" | head -1)
    fi
}

stop() { # name signal
    disown "${pid[$1]}" 2>/dev/null || true
    kill "-$2" "${pid[$1]}"
    while kill -0 "${pid[$1]}" 2>/dev/null; do sleep 0.01; done
    unset "pid[$1]"
}

# RESP SETs of keys first..last, as redis-benchmark names them.
records() { # first last
    awk -v first="$1" -v last="$2" -v size=$VALUE_BYTES 'BEGIN {
        value = sprintf("%" size "s", ""); gsub(/ /, "x", value)
        for (i = first; i <= last; i++)
            printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", i, size, value }'
}

load() { # name first last
    records "$2" "$3" | redis-cli -p "${port[$1]}" --pipe >/dev/null
}

cpu_ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }

# Resident MiB; pages of LMDB's mapped file are cache, not the process's own, and are shown apart.
memory() { # pid
    awk '/^[0-9a-f]+-[0-9a-f]+ / {file = $NF} /^Rss:/ {all += $2; if (file ~ /data\.mdb$/) mapped += $2}
         END {printf "%d %d\n", (all - mapped) / 1024, mapped / 1024}' "/proc/$1/smaps"
}

# What a server holds when it has come to rest; KvNode flushes its write buffer 30 s after the last write at the latest.
settle() { [ "$1" = kvnode ] && sleep 35 || sleep 3; }

fast_state() { [ "$GATE_NS" = 0 ] || [ "$("$work/c2c")" -lt "$GATE_NS" ]; }

# One repetition of one workload on one server, repeated until it lies between two fast moments.
measure() { # name label requests args...
    local name=$1 label=$2 requests=$3 before after line rps p99 try
    shift 3
    for try in 1 2 3 4 5 6; do
        for _ in $(seq 100); do fast_state && break; sleep 0.1; done
        before=$(cpu_ticks "${pid[$name]}")
        line=$(redis-benchmark -p "${port[$name]}" -n "$requests" --csv "$@" 2>/dev/null | grep -v '"test"' | tail -1)
        after=$(cpu_ticks "${pid[$name]}")
        fast_state && break
        [ "$try" = 6 ] && say "bench: $name $label: the machine stayed slow; kept as it is"
    done
    rps=$(cut -d, -f2 <<<"$line" | tr -d '"')
    p99=$(cut -d, -f7 <<<"$line" | tr -d '"')
    awk -v n="$name" -v l="$label" -v r="$rps" -v p="$p99" -v t=$((after - before)) -v q="$requests" \
        -v hz="$(getconf CLK_TCK)" 'BEGIN {printf "%s,%s,%.0f,%s,%.2f\n", n, l, r, p, t / hz * 1e6 / q}' >>"$results"
}

workload() { # label requests args...
    local rep name
    for rep in $(seq "$REPS"); do
        for name in $SERVERS; do measure "$name" "$@"; done
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
    awk -F, -v servers="$SERVERS" '
        { key = $1 SUBSEP $2; n[key]++; rps[key, n[key]] = $3; p99[key, n[key]] = $4; cpu[key, n[key]] = $5
          if (!($2 in seen)) { seen[$2] = 1; labels[++count] = $2 } }
        function median(values, key,   i, j, m, t, a) {
            m = n[key]; if (!m) return ""
            for (i = 1; i <= m; i++) a[i] = values[key, i] + 0
            for (i = 2; i <= m; i++) for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return m % 2 ? a[(m + 1) / 2] : (a[m / 2] + a[m / 2 + 1]) / 2 }
        END {
            m = split(servers, list, " ")
            printf "| workload |"; for (i = 1; i <= m; i++) printf " %s |", list[i]; print " kvnode / redis-always |"
            printf "|---|"; for (i = 1; i <= m; i++) printf "---|"; print "---|"
            for (l = 1; l <= count; l++) {
                printf "| %s |", labels[l]
                for (i = 1; i <= m; i++) {
                    key = list[i] SUBSEP labels[l]
                    printf " %.1fk/s, p99 %.2f ms, %.2f s/M |", median(rps, key) / 1000, median(p99, key), median(cpu, key) }
                a = median(rps, "kvnode" SUBSEP labels[l]); b = median(rps, "redis-always" SUBSEP labels[l])
                if (a && b) printf " **%.2f** |\n", a / b; else print " |" } }' "$results"
}

require redis-server redis-server
require redis-benchmark redis-tools
require gcc gcc
[ "$SYNC_DELAY_US" = 0 ] || require strace strace
./build.sh >&2
gcc -O2 -pthread -o "$work/c2c" bench/native/c2c.c
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
