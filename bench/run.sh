#!/usr/bin/env bash
# KvNode beside its peers, interleaved: bench/run.sh [node|cluster] [quick]
#
#   node      one node beside one redis-server and one garnet-server, a quarter of an hour: throughput, p99 and server CPU of
#             SET and GET, memory at 1 M and 5 M keys, restart times, the time of a PIVOT page
#   cluster   three nodes beside etcd x3 and one redis-server, under eight minutes: throughput, p99 and server CPU of SET and
#             GET, the same with a millisecond added to every sync, a follower that catches up, the leader's memory
#             while a follower stands still
#   (neither) both, one after the other
#   quick     a fifth of the work (node), a tenth (cluster): does it run? The figures are too short to quote.
#
# Tables go to standard output, as Markdown; what is being done to standard error. Needs redis-server, redis-tools, gcc, for
# the cluster etcd-server, for delays strace (installed when run as root). garnet-server comes from NuGet and is left
# out, with a line that says so, where it cannot be had.
#
#   REPS=3            repetitions; the median is printed
#   SERVERS="..."     node: kvnode redis-always redis-none garnet-aof garnet; cluster: kvnode etcd redis-always
#   GATE_NS=150       a repetition counts only between two cache-line round trips below this (0 = no gate)
#   GATE_SECONDS=...  time the gate may cost in all; then repetitions are taken as they come (cluster: 60)
#   KEYS=...          keys that are read and written (node: 1000000, cluster: 100000)
#   OPERATIONS="set get"   empty: only what comes after the throughput
#   node only:
#   SYNC_DELAY_US=0   adds this to every fsync of every server
#   KEYS_LARGE=5000000
#   cluster only:
#   SYNC_DELAYS_US="0 1000"   one table for each; empty: none
#   CATCH_UP=1000000  writes that the follower is behind; 0 leaves that part and the memory out
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

parts=()
quick=
for word in "$@"; do
    case $word in
        node | cluster) parts+=("$word") ;;
        quick) quick=quick ;;
        *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 64 ;;
    esac
done
for part in "${parts[@]:-node cluster}"; do
    for name in $part; do bash "$here/$name.sh" $quick; done
done
