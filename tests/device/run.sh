#!/bin/bash
# Runs on a GPU machine, in the folder that pack.sh made: every GPU test, then (with "bench") the benchmarks. Prints a table
# of results and ends with the number of failures. Logs go to $OUT (./logs).
#
#   ./run.sh [test|sanitize|bench]...        default: test
cd "$(dirname "$0")"
here=$PWD OUT=${OUT:-$PWD/logs}
mkdir -p "$OUT"
export MILI_CACHE_DIR=${MILI_CACHE_DIR:-/tmp/mili-cache}
export MILI_GOLDEN_PLANS=$here/plans MILI_GOLDEN_MODELS=$here/models
export MILI_MIXED_PLANS=$(ls "$here"/mixed/*.mili | paste -sd:)
failures=0
run() {  # NAME SECONDS COMMAND...: a line with its exit code and time
  local name=$1 limit=$2 begin=$SECONDS rc
  shift 2
  timeout "$limit" "$@" >"$OUT/$name.log" 2>&1
  rc=$?
  printf '%-28s %s (%d s)\n' "$name" "$([ $rc = 0 ] && echo ok || echo "FAILED, exit $rc")" $((SECONDS - begin))
  [ $rc = 0 ] || failures=$((failures + 1))
}
[ $# -gt 0 ] || set -- test
for what in "$@"; do
  case $what in
  test)
    run golden 40 bin/golden_plans_test
    run mixed 30 bin/mixed_plans_test
    run sampling 30 bin/device_sampling_test
    run device 30 bin/runtime_cuda_test
    [ -x bin/attention_harness ] && run attention 40 bin/attention_harness check
    [ -x bin/ops_harness ] && run ops 60 bin/ops_harness check
    grep -h "relative error of" "$OUT/golden.log"
    grep -h "equal bit by bit" "$OUT/mixed.log"
    ;;
  sanitize)
    # Plans run kernel by kernel under the tools; racecheck sees shared memory.
    run memcheck-golden 120 compute-sanitizer --tool memcheck --error-exitcode 9 bin/golden_plans_test \
      --gtest_filter='*LogitsOfEveryPromptToken/llama:*LogitsOfEveryPromptToken/qwen3:*TogetherInOneFlattenedStep/mistral_window'
    run racecheck-golden 120 compute-sanitizer --tool racecheck --error-exitcode 9 bin/golden_plans_test \
      --gtest_filter='*LogitsOfEveryPromptToken/llama:*TogetherInOneFlattenedStep/qwen3'
    [ -x bin/ops_harness ] && run memcheck-ops 120 compute-sanitizer --tool memcheck --error-exitcode 9 bin/ops_harness check --quick
    [ -x bin/ops_harness ] && run racecheck-ops 120 compute-sanitizer --tool racecheck --error-exitcode 9 bin/ops_harness check --quick
    grep -h "ERROR SUMMARY\|RACECHECK SUMMARY" "$OUT"/memcheck-*.log "$OUT"/racecheck-*.log
    ;;
  bench)
    for shape in shapes/*.mili; do
      name=$(basename "$shape" .mili)
      run "bench-$name" 60 bin/mili-bench "$shape" -p 512,2048 -n 128 -d 512 --profile
      sed -n '1,7p' "$OUT/bench-$name.log"
    done
    ;;
  esac
done
echo "$failures failures"
exit $((failures > 0))
