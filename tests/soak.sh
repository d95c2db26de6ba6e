#!/usr/bin/env bash
# Long runs of the open-ended tests: tests/soak.sh MINUTES [CLASS]
#
# MINUTES is the time of each open-ended test. CLASS is one of
#   KillTests       one node: kill -9 loops
#   PowerLossTests  one node: power loss
#   NemesisTests    three and five nodes: random faults, linearizable histories, equal states; says failover times
# All of them without it.
# A failure prints the seed; KVNODE_SEED=<seed> repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:?usage: tests/soak.sh MINUTES [CLASS]}
classes=${2:-KillTests PowerLossTests NemesisTests}

./build.sh
export KVNODE_SOAK_MINUTES=$minutes
failed=0
for class in $classes; do
    case $class in
        NemesisTests) project=KvNode.Cluster.Tests ;;
        *) project=KvNode.Crash.Tests ;;
    esac
    dotnet run --project "tests/$project" -c Release -- -class "$project.$class" -showLiveOutput || failed=1
done
exit "$failed"
