#!/usr/bin/env bash
# Long runs of the open-ended crash tests (kill -9 loops, power loss): tests/soak.sh MINUTES [CLASS]
#
# MINUTES is the time of each open-ended test. CLASS is KillTests or PowerLossTests; both without it.
# A failure prints the seed; KVNODE_SEED=<seed> repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:?usage: tests/soak.sh MINUTES [CLASS]}
classes=${2:-KillTests PowerLossTests}

./build.sh
export KVNODE_SOAK_MINUTES=$minutes
failed=0
for class in $classes; do
    dotnet run --project tests/KvNode.Crash.Tests -c Release -- -class "KvNode.Crash.Tests.$class" -showLiveOutput || failed=1
done
exit "$failed"
