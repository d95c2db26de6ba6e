#!/usr/bin/env bash
# Builds KvNode if needed, then runs a node with these arguments in the foreground, in this directory:
#   ./run.sh --addr :4920 --data /var/lib/kvnode
set -euo pipefail

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/build.sh"
build
export_dotnet_root
exec "$program" "$@"
