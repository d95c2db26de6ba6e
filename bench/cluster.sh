#!/usr/bin/env bash
# Three nodes beside their peers; bench/run.sh says what can be set.
set -euo pipefail
GATE_SECONDS=${GATE_SECONDS:-60}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

quick=${1:-}
KEYS=${KEYS:-100000}
SERVERS=${SERVERS:-kvnode etcd redis-always}
SYNC_DELAYS_US=${SYNC_DELAYS_US-0 1000}
OPERATIONS=${OPERATIONS-set get}
CATCH_UP=${CATCH_UP:-1000000}
scale=$([ "$quick" = quick ] && echo 10 || echo 1)
etcd_seconds=$([ "$quick" = quick ] && echo 0.2 || echo 1.5)
random=(-d $VALUE_BYTES -r "$KEYS")
group[kvnode]="kvnode-1 kvnode-2 kvnode-3"
group[etcd]="etcd-1 etcd-2 etcd-3"

has() { [[ " $SERVERS " = *" $1 "* ]]; }

# ---- servers ----

launch() { # name command...
    mkdir -p "$work/$1"
    "${@:2}" >"$work/$1.log" 2>&1 &
    pid[$1]=$!
}

# Puts what delays a server's syncs in front of its command: "slow" is an empty array without a delay.
set_delay() { # microseconds
    slow=()
    trace=()
    [ "$1" = 0 ] && return
    slow=(env "SLOWSYNC_US=$1" "LD_PRELOAD=$work/slowsync.so")
    trace=(strace -f --seccomp-bpf -qq -o /dev/null -e trace=fdatasync,fsync -e "inject=fdatasync,fsync:delay_exit=$1")
}

start_redis() {
    port[redis-always]=$(free_port)
    launch redis-always "${slow[@]}" redis-server --port "${port[redis-always]}" --save "" --appendonly yes \
        --appendfsync always --auto-aof-rewrite-percentage 0 --dir "$work/redis-always"
    until_true "the start of redis-always" ping_ok "${port[redis-always]}"
    load redis-always 0 $((KEYS - 1))
}

field() { # port section name
    redis-cli -p "$1" info "$2" | tr -d '\r' | awk -F: -v name="$3" '$1 == name {print $2}'
}

kvnode_term() { field "${port[kvnode-1]}" raft raft_term; }

has_three_voters() { [ "$(redis-cli -p "${port[kvnode-1]}" info raft | grep -c ',voter=1,')" = 3 ]; }

start_kvnode() {
    local name join=()
    for name in ${group[kvnode]}; do
        port[$name]=$(free_port)
        launch "$name" "${slow[@]}" artifacts/kvnode/kvnode --addr "127.0.0.1:${port[$name]}" --data "$work/$name" "${join[@]}"
        until_true "the start of $name" ping_ok "${port[$name]}"
        join=(--join "127.0.0.1:${port[kvnode-1]}")
    done
    until_true "the cluster of three" has_three_voters
    load kvnode-1 0 $((KEYS - 1))
    term_at_start=$(kvnode_term)
}

etcd_ok() { # port
    local answer=''
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3
    answer=$(timeout 2 cat <&3) || true
    exec 3>&- 3<&-
    [[ $answer = *'"health":"true"'* ]]
}

start_etcd() {
    local name cluster='' peer=() i=0
    for name in ${group[etcd]}; do
        port[$name]=$(free_port)
        port[$name-peer]=$(free_port)
        peer+=("http://127.0.0.1:${port[$name-peer]}")
        cluster+="${cluster:+,}$name=${peer[-1]}"
    done
    etcd_ports=''
    for name in ${group[etcd]}; do
        launch "$name" "${trace[@]}" etcd --name "$name" --data-dir "$work/$name" --log-level error \
            --listen-client-urls "http://127.0.0.1:${port[$name]}" --advertise-client-urls "http://127.0.0.1:${port[$name]}" \
            --listen-peer-urls "${peer[i]}" --initial-advertise-peer-urls "${peer[i]}" \
            --initial-cluster "$cluster" --initial-cluster-token "bench-$$" --initial-cluster-state new
        etcd_ports+="${etcd_ports:+,}${port[$name]}"
        i=$((i + 1))
    done
    for name in ${group[etcd]}; do
        until_true "the start of $name" etcd_ok "${port[$name]}"
        # Of strace and what it runs, etcd is the one to measure and to stop.
        [ ${#trace[@]} = 0 ] || pid[$name]=$(pgrep -P "${pid[$name]}" | head -1)
    done
    etcd_client load leader 1 0
}

start_all() { # delay
    local name
    set_delay "$1"
    for name in $SERVERS; do "start_${name%%-*}"; done
    say "loaded $KEYS keys into: $SERVERS; $1 us added to every sync"
}

# Programs that compile themselves while they run (.NET), or open files and fill buffers, are not measured at their start;
# etcdload warms its servers up itself.
warm_up() {
    local name p n=$([ "$delay" = 0 ] && echo 120000 || echo 40000)
    has kvnode && find_roles
    for name in $SERVERS; do
        case $name in
            kvnode) set -- "${port[$leader]}" "${port[$follower]}" ;;
            redis-always) set -- "${port[$name]}" ;;
            *) continue ;;
        esac
        for p in "$@"; do
            redis_load "$p" $((n / scale)) -t set -c 50 -P 1 "${random[@]}" >/dev/null
            redis_load "$p" $((100000 / scale)) -t get -c 50 -P 1 "${random[@]}" >/dev/null
        done
    done
}

stop_group() { # name
    local name
    for name in ${group[$1]:-$1}; do stop "$name" TERM; done
    for name in ${group[$1]:-$1}; do rm -rf "${work:?}/$name"; done
}

# ---- loads ----

etcd_client() { # verb role callers seconds
    "$work/etcdload" "$1" "$etcd_ports" "$2" "$3" "$4" "$KEYS" $VALUE_BYTES
}

etcd_load() { # verb role callers
    local line
    line=$(etcd_client "$1" "$2" "$3" "$etcd_seconds") || return
    cut -d, -f4 <<<"$line" >>"$work/etcd-client-cpu"
    cut -d, -f1-3 <<<"$line"
}

# Sets leader and follower, two names. A cluster that has just changed its leader may not know it yet.
find_roles() {
    local address='' name
    for _ in $(seq 500); do
        address=$(redis-cli -p "${port[kvnode-1]}" raftleader)
        [ -n "$address" ] && break
        sleep 0.01
    done
    leader=''
    follower=''
    for name in ${group[kvnode]}; do
        if [ "127.0.0.1:${port[$name]}" = "$address" ]; then leader=$name; else follower=$name; fi
    done
    [ -n "$leader" ] || { say "bench: no kvnode leads"; exit 70; }
}

# redis-benchmark counts errors as answers; a node that gave one has not done the work.
kvnode_load() { # role requests args...
    local p errors
    find_roles
    p=${port[${!1}]}
    errors=$(field "$p" stats total_error_replies)
    redis_load "$p" "${@:2}" || return
    [ "$(field "$p" stats total_error_replies)" = "$errors" ] || { say "bench: kvnode answered with errors"; return 1; }
}

workload() { # label leader|follower set|get connections pipeline requests
    local label=$1 role=$2 op=$3 connections=$4 pipeline=$5 requests=$(($6 / scale)) rep args
    [[ " $OPERATIONS " = *" $op "* ]] || return 0
    args=("$requests" -t "$op" -c "$connections" -P "$pipeline" "${random[@]}")
    for rep in $(seq "$REPS"); do
        has kvnode && measure kvnode "$label" kvnode_load "$role" "${args[@]}"
        if has etcd && [ "$pipeline" = 1 ] && { [ "$op" = set ] || [ "$delay" = 0 ]; }; then
            measure etcd "$label" etcd_load "$([ "$op" = set ] && echo put || echo range)" "$role" "$connections"
        fi
        has redis-always && measure redis-always "$label" redis_load "${port[redis-always]}" "${args[@]}"
    done
    say "  $label done"
}

all_workloads() {
    # Requests for about a second each: the first number without, the second with a delay.
    local n=$([ "$delay" = 0 ] && echo 1 || echo 2)
    of() { echo "${!n}"; }
    workload "SET -c 50 -P 1" leader set 50 1 "$(of 60000 25000)"
    workload "SET -c 50 -P 16" leader set 50 16 "$(of 300000 200000)"
    workload "SET -c 50 -P 64" leader set 50 64 "$(of 600000 500000)"
    workload "SET -c 200 -P 1" leader set 200 1 "$(of 80000 60000)"
    workload "SET -c 1 -P 1" leader set 1 1 "$(of 5000 900)"
    workload "SET -c 50 -P 1 through a follower" follower set 50 1 "$(of 40000 20000)"
    workload "GET -c 50 -P 1" leader get 50 1 "$(of 80000 80000)"
    workload "GET -c 50 -P 16" leader get 50 16 "$(of 400000 400000)"
    workload "GET -c 50 -P 64" leader get 50 64 "$(of 600000 600000)"
    workload "GET -c 200 -P 1" leader get 200 1 "$(of 80000 80000)"
    workload "GET -c 1 -P 1" leader get 1 1 "$(of 12000 12000)"
    workload "GET -c 50 -P 1 at a follower" follower get 50 1 "$(of 60000 60000)"
}

table() {
    awk -F, -v delay="$delay" "$awk_results"'
        function goal(r, least) {
            return r == "" || least == "" ? "" : sprintf("%.2f %s", least, r >= least ? "reached" : "**missed**") }
        BEGIN {
            least["SET -c 50 -P 1"] = delay ? 0.80 : 0.45
            least["SET -c 50 -P 16"] = delay ? 0.80 : 0.40
            least["SET -c 50 -P 64"] = delay ? 0.80 : 0.50
            least["SET -c 1 -P 1"] = delay ? 0.90 : 0.30
            least["GET -c 50 -P 1"] = 0.70
            least["GET -c 50 -P 16"] = 0.50
            least_etcd["SET -c 50 -P 1"] = 4
            least_etcd["SET -c 200 -P 1"] = 4
        }
        END {
            print "| workload | kvnode x3 | etcd x3 | redis-always | kvnode / redis | at least | kvnode / etcd | at least |"
            print "|---|---|---|---|---|---|---|---|"
            for (l = 1; l <= count; l++) {
                label = labels[l]
                kv = "kvnode" SUBSEP label; redis = "redis-always" SUBSEP label; etcd = "etcd" SUBSEP label
                a = ratio(kv, redis); b = ratio(kv, etcd)
                printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", label, cell(kv), cell(etcd), cell(redis),
                    a == "" ? "" : sprintf("**%.2f**", a), goal(a, least[label]),
                    b == "" ? "" : sprintf("%.2f", b), goal(b, least_etcd[label]) } }' "$results"
}

# ---- a follower that stands still, and catches up ----

now_ns() { date +%s%N; }

# Starts SETs that go on until stop_writes.
start_writes() {
    redis-benchmark -p "${port[$leader]}" -t set -n 2000000000 -c 50 -P 1 "${random[@]}" >/dev/null 2>&1 &
    pid[writes]=$!
    sleep 1
}

stop_writes() { stop writes KILL; }

writes_done() { field "${port[$leader]}" stats total_commands_processed; }

# Commands a second at the leader while a command runs; sets rate and seconds.
rate_while() { # command...
    local first began
    first=$(writes_done)
    began=$(now_ns)
    "$@"
    read -r rate seconds < <(awk -v n=$(($(writes_done) - first)) -v t=$(($(now_ns) - began)) \
        'BEGIN {printf "%.0f %.1f\n", n * 1e9 / t, t / 1e9}')
}

# The follower has applied what the leader had committed a moment before.
wait_until_caught_up() {
    local wanted end=$((SECONDS + 120))
    while wanted=$(field "${port[$leader]}" raft raft_commit_index)
        [ "$(field "${port[$follower]}" raft raft_applied_index)" -lt "$wanted" ]; do
        [ $SECONDS -lt $end ] || { say "bench: the follower has not caught up in 120 s"; return; }
        # Each look starts half a dozen processes: more looks would be a load of their own.
        sleep 0.5
    done
}

pause_follower() { kill -STOP "${pid[$follower]}"; }

resume_follower() { kill -CONT "${pid[$follower]}"; }

write_many() { kvnode_load leader "$1" -t set -c 50 -P 16 "${random[@]}" >/dev/null; }

catch_up() {
    local behind=$((CATCH_UP / scale)) healthy paused during after took fast=0 try began
    local window=$([ "$quick" = quick ] && echo 1 || echo 3)
    for try in 1 2; do
        wait_for_fast_state
        began=$SECONDS
        find_roles
        start_writes
        rate_while sleep "$window"; healthy=$rate
        stop_writes
        pause_follower
        write_many "$behind"
        start_writes
        rate_while sleep "$window"; paused=$rate
        resume_follower
        rate_while wait_until_caught_up; during=$rate; took=$seconds
        rate_while sleep "$window"; after=$rate
        stop_writes
        fast_state && { fast=1; break; }
        gate_is_spent && break
        [ "$try" = 2 ] || gate_spent=$((gate_spent + SECONDS - began))
    done
    [ $fast = 1 ] || say "bench: catching up: the machine stayed slow; kept as it is"
    echo "## A follower that is $behind writes behind"
    echo
    echo "SET -c 50 -P 1 at the leader all the time; the follower stood still (SIGSTOP) while the others took the writes."
    echo
    echo "| | SET/s at the leader | of before | at least |"
    echo "|---|---|---|---|"
    echo "| before, three nodes | $healthy | | |"
    echo "| follower stands still | $paused | $(share "$paused" "$healthy") | |"
    echo "| follower catches up, for $took s | $during | **$(share "$during" "$healthy")** | 0.80 |"
    echo "| afterwards | $after | $(share "$after" "$healthy") | |"
    echo
    say "  catching up done"
}

share() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }

# Eight steps of writes; prints the leader's memory and log after each, one line a step.
memory_while_writing() { # writes
    local step
    for step in 1 2 3 4 5 6 7 8; do
        write_many $(($1 / 8))
        echo "$(memory "${pid[$leader]}" | cut -d' ' -f1) $(($(field "${port[$leader]}" raft raft_log_bytes) >> 20))"
    done
}

leader_memory() {
    local writes=$((CATCH_UP * 2 / scale)) whole paused step=0 line
    find_roles
    whole=$(memory_while_writing "$writes")
    pause_follower
    paused=$(memory_while_writing "$writes")
    resume_follower
    rate_while wait_until_caught_up
    echo "## The leader's memory with a follower that stands still"
    echo
    echo "SET -c 50 -P 16. Resident MiB without LMDB's mapped pages, and MiB of log on the disk; first with three nodes, then"
    echo "with one of them stopped (SIGSTOP, its connections open). It had caught up $seconds s after it went on."
    echo
    echo "| writes | three nodes | log | one stands still | log |"
    echo "|---|---|---|---|---|"
    while read -r line; do
        step=$((step + 1))
        echo "| $((writes * step / 8)) | ${line// / | } |"
    done < <(paste -d' ' <(echo "$whole") <(echo "$paused"))
    echo
    say "  memory done"
}

# ---- the run ----

machine() {
    printf '%s, %s processors (%s), Linux %s. redis-server %s' "$(date -u +%F)" "$(nproc)" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(uname -r)" \
        "$(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')"
    ! has etcd || printf ', etcd %s' "$(etcd --version | sed -n 's/etcd Version: //p')"
    printf '. %s keys of %s B, median of %s%s.\n\n' "$KEYS" "$VALUE_BYTES" "$REPS" "${quick:+, QUICK: too short to quote}"
}

# What a reader of the table should know besides.
footnotes() {
    if has etcd; then
        sort -n "$work/etcd-client-cpu" | awk '{a[NR] = $1}
            END {printf "The client of etcd took %s s of CPU per million calls (median).\n", a[int((NR + 1) / 2)]}'
    fi
    ! has kvnode || echo "Elections of kvnode while it was measured: $(($(kvnode_term) - term_at_start))."
    echo
}

require redis-server redis-server
require redis-benchmark redis-tools
require gcc gcc
if has etcd; then
    require etcd etcd-server
    [ -z "${SYNC_DELAYS_US//[0 ]/}" ] || require strace strace
fi
./build.sh >&2
c_tools
gcc -O2 -o "$work/etcdload" bench/native/etcdload.c
gcc -shared -fPIC -O2 -o "$work/slowsync.so" bench/native/slowsync.c -ldl
SECONDS=0

echo "# Three nodes"
echo
machine
for delay in $SYNC_DELAYS_US; do
    start_all "$delay"
    : >"$results"
    : >"$work/etcd-client-cpu"
    [ -z "$OPERATIONS" ] || warm_up
    all_workloads
    if [ -n "$OPERATIONS" ]; then
        echo "## Throughput, $delay us added to every sync (req/s, p99, CPU seconds of all servers per million)"
        echo
        table
        echo
        footnotes
    fi
    for name in $SERVERS; do [ "$name" = kvnode ] || stop_group "$name"; done
    if has kvnode && [ "$delay" = 0 ] && [ "$CATCH_UP" != 0 ]; then
        catch_up
        leader_memory
    fi
    ! has kvnode || stop_group kvnode
done
say "took $SECONDS s, $gate_spent of them for the gate; $failures loads failed"
