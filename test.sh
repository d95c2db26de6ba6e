#!/usr/bin/env bash
# Everything the tests need, then all tests. Last line: "N passed, N failed" (and ", N skipped" where some were).
#   ./test.sh                  everything
#   ./test.sh Storage Tidy     only the test projects whose name contains one of these words
set -euo pipefail

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/build.sh"
cd "$root"

results=$root/artifacts/test
project_seconds_max=900
passed=0
failed=0
skipped=0

finish() {
    local line="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || line="$line, $skipped skipped"
    printf '%s\n' "$line"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
    exit
}

# step name command...: quiet when it succeeds; otherwise its output, and one failure more.
step() {
    local name=$1 log=$results/$1.log started=$SECONDS
    shift
    if "$@" >"$log" 2>&1; then
        printf '%s: ok (%s s)\n' "$name" $((SECONDS - started))
    else
        cat "$log"
        printf '%s: FAILED (%s s)\n' "$name" $((SECONDS - started))
        failed=$((failed + 1))
        return 1
    fi
}

# count report attribute: one number of an xunit XML report.
count() { sed -n "s/^.*<assembly [^>]* $2=\"\([0-9]*\)\".*$/\1/p" "$1" | head -n 1; }

# run_project name: runs one test project, prints its line, adds to the sums.
run_project() {
    local name=$1 log=$results/$1.log report=$results/$1.xml started=$SECONDS code=0
    rm -f "$report"
    timeout --kill-after=20 "$project_seconds_max" dotnet exec "artifacts/bin/$name/release/$name.dll" \
        -noLogo -noColor -xml "$report" >"$log" 2>&1 </dev/null || code=$?
    local ok=0 bad=0 left=0 broken=0
    if [ -f "$report" ]; then
        ok=$(count "$report" passed)
        bad=$(count "$report" failed)
        left=$(count "$report" skipped)
        broken=$(count "$report" errors)
    fi
    ok=${ok:-0} bad=${bad:-0} left=${left:-0} broken=${broken:-0}
    local trouble=""
    if [ "$code" = 124 ] || [ "$code" = 137 ]; then
        trouble="stopped after $project_seconds_max s"
    elif [ "$broken" != 0 ]; then
        trouble="$broken errors outside the tests"
    elif [ $((ok + bad)) = 0 ]; then
        trouble="no test ran"
    elif [ "$code" != 0 ] && [ "$bad" = 0 ]; then
        trouble="exit code $code"
    fi
    # Trouble that no failed test stands for counts as one failure.
    [ -z "$trouble" ] || bad=$((bad + 1))
    [ "$bad" = 0 ] || cat "$log"
    grep -A 1 -F '[SKIP]' "$log" || true
    printf '%s: %s passed, %s failed, %s skipped (%s s)%s\n' \
        "$name" "$ok" "$bad" "$left" $((SECONDS - started)) "${trouble:+: $trouble}"
    passed=$((passed + ok))
    failed=$((failed + bad))
    skipped=$((skipped + left))
}

is_wanted() { # name words...
    local name=$1 word
    shift
    [ $# = 0 ] && return 0
    for word in "$@"; do
        [[ $name == *"$word"* ]] && return 0
    done
    return 1
}

mkdir -p "$results"
need_dotnet
need_command redis-cli redis-tools
need_command lz4 lz4
need_command gcc gcc libc6-dev
export_dotnet_root

step format dotnet format whitespace . --folder --verify-no-changes --exclude artifacts || true
step restore dotnet restore KvNode.sln --locked-mode "${no_servers[@]}" || finish
step program ./build.sh || finish
step build dotnet build KvNode.sln --no-restore --configuration Release "${no_servers[@]}" || finish

for project in tests/*/*.csproj; do
    name=$(basename "$project" .csproj)
    if grep -q '<IsTestProject>true' "$project" && is_wanted "$name" "$@"; then
        run_project "$name"
    fi
done
finish
