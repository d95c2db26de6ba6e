#!/usr/bin/env bash
# What the parts of bench/run.sh share: starting and stopping servers, the gate, one measurement, medians. Sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

REPS=${REPS:-3}
GATE_NS=${GATE_NS:-150}
GATE_SECONDS=${GATE_SECONDS:-1000000}
VALUE_BYTES=100
work=$(mktemp -d)
results=$work/results.csv
gate_spent=0
failures=0
declare -A pid port group

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
    for name in "${!pid[@]}"; do kill -CONT "${pid[$name]}" 2>/dev/null && kill "${pid[$name]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

free_port() {
    local p
    while :; do
        p=$((20000 + RANDOM % 10000)) # below the ports the system gives to clients
        [[ " ${port[*]} " = *" $p "* ]] && continue
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

# Waits until a command says yes.
until_true() { # what command...
    local what=$1
    shift
    for _ in $(seq 1500); do
        "$@" && return
        sleep 0.01
    done
    say "bench: $what did not happen; the servers' last words:"
    tail -n 5 "$work"/*.log >&2
    exit 70
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

# CPU time of a server, or of all the servers of a group.
cpu_ticks() { # name
    local member
    for member in ${group[$1]:-$1}; do cat "/proc/${pid[$member]}/stat"; done | awk '{t += $14 + $15} END {print t}'
}

# Resident MiB; pages of LMDB's mapped file are cache, not the process's own, and are shown apart.
memory() { # pid
    awk '/^[0-9a-f]+-[0-9a-f]+ / {file = $NF} /^Rss:/ {all += $2; if (file ~ /data\.mdb$/) mapped += $2}
         END {printf "%d %d\n", (all - mapped) / 1024, mapped / 1024}' "/proc/$1/smaps"
}

fast_state() { [ "$GATE_NS" = 0 ] || [ "$("$work/c2c")" -lt "$GATE_NS" ]; }

gate_is_spent() { [ "$gate_spent" -ge "$GATE_SECONDS" ]; }

# Until the machine is fast, ten seconds at most.
wait_for_fast_state() {
    local began=$SECONDS
    for _ in $(seq 100); do
        fast_state && break
        [ $((gate_spent + SECONDS - began)) -lt "$GATE_SECONDS" ] || break
        sleep 0.1
    done
    gate_spent=$((gate_spent + SECONDS - began))
}

# One repetition of one workload on one server, repeated until it lies between two fast moments. The command prints
# "requests a second,p99 ms,requests"; one that fails, as when a cluster elects a leader, is tried again.
measure() { # name label command...
    local name=$1 label=$2 before after line='' try began
    shift 2
    for try in 1 2 3 4 5 6; do
        wait_for_fast_state
        began=$SECONDS
        before=$(cpu_ticks "$name")
        if ! line=$("$@"); then
            say "bench: $name $label: the load failed (try $try): $*"
            failures=$((failures + 1))
            line=''
            sleep 1
            continue
        fi
        after=$(cpu_ticks "$name")
        fast_state && break
        if [ "$try" = 6 ] || gate_is_spent; then
            say "bench: $name $label: the machine stayed slow; kept as it is"
            break
        fi
        gate_spent=$((gate_spent + SECONDS - began))
    done
    [ -n "$line" ] || return 0
    awk -F, -v n="$name" -v l="$label" -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        '{printf "%s,%s,%.0f,%s,%.2f\n", n, l, $1, $2, t / hz * 1e6 / $3}' <<<"$line" >>"$results"
}

redis_load() { # port requests args...
    local line
    line=$(redis-benchmark -p "$1" -n "$2" --csv "${@:3}" 2>/dev/null | grep -v '"test"' | tail -1)
    tr -d '"' <<<"$line" | awk -F, -v q="$2" '{print $2 "," $7 "," q} END {exit NF < 7}'
}

c_tools() { gcc -O2 -pthread -o "$work/c2c" bench/native/c2c.c; }

# For the tables: reads results, and median(of rps, p99 or cpu; a server and a workload).
awk_results='
    { key = $1 SUBSEP $2; n[key]++; rps[key, n[key]] = $3; p99[key, n[key]] = $4; cpu[key, n[key]] = $5
      if (!($2 in seen)) { seen[$2] = 1; labels[++count] = $2 } }
    function median(values, key,   i, j, m, t, a) {
        m = n[key]; if (!m) return ""
        for (i = 1; i <= m; i++) a[i] = values[key, i] + 0
        for (i = 2; i <= m; i++) for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        return m % 2 ? a[(m + 1) / 2] : (a[m / 2] + a[m / 2 + 1]) / 2 }
    function cell(key) {
        if (!n[key]) return ""
        return sprintf("%.1fk/s, p99 %.2f ms, %.2f s/M", median(rps, key) / 1000, median(p99, key), median(cpu, key)) }
    function ratio(a, b) { return n[a] && n[b] && median(rps, b) > 0 ? median(rps, a) / median(rps, b) : "" }'
