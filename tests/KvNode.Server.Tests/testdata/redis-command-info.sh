#!/usr/bin/env bash
# Asks a redis-server of its own what it says of each of its commands, and writes redis-command-info.txt beside this
# script: one line per command or subcommand, sorted by name: the name, a blank, and COMMAND INFO's answer as JSON.
# A container's subcommands are left out of its own line: they have lines, and Redis lists them in no fixed order.
# Needs Debian 12's redis-server and redis-tools (7.0.15). CommandRedisTests compares the file with the command table.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
redis-server --port 0 --unixsocket "$work/redis.sock" --save "" --appendonly no --dir "$work" >"$work/log" &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -r "$work"' EXIT
cli() { redis-cli -s "$work/redis.sock" "$@"; }
until cli ping >/dev/null 2>&1; do sleep 0.1; done
{
    echo "# $(cli info server | tr -d '\r' | grep '^redis_version:')"
    cli command list | LC_ALL=C sort | while read -r name; do
        answer=$(cli --json command info "$name" </dev/null | sed -E "s/,\[\[\"$name\|.*/,[]]]/")
        printf '%s %s\n' "$name" "$answer"
    done
} >"$here/redis-command-info.txt"
