#!/bin/bash
# Runs on a GPU machine, in the folder that pack.sh made. Prints a line for each program and tables of results, and ends
# with the number of failures. Logs go to $OUT (./logs).
#
#   ./run.sh [test|faults|sanitize|bench|ablate|wide|chat GGUF]...        default: test faults
#
#   test      golden models, mixed batches, ops, sampling, the device suite, the attention harness
#   faults    plans with deliberate faults, each of which the golden tests must refuse
#   sanitize  compute-sanitizer, memcheck and racecheck, on small cases
#   bench     every plan in shapes/: prompts, decode, kernel tables, cold start
#   ablate    decode with each fusion, graphs, dependent launch and arena reuse off
#   wide      golden models of real widths, made here: needs torch, transformers, mili-compile, and make_golden.py beside
#   chat      SmolLM2's GGUF on the GPU and on the CPU, and their logits: needs mili-compile, and ld.lld-22 for the CPU's plan
cd "$(dirname "$0")"
here=$PWD OUT=${OUT:-$PWD/logs}
mkdir -p "$OUT"
[ -z "$(ls */*.mili.gz 2>/dev/null)" ] || gunzip -f */*.mili.gz
[ ! -e bin/mili-compile.xz ] || xz -d -f -T0 bin/mili-compile.xz
export MILI_CACHE_DIR=${MILI_CACHE_DIR:-/tmp/mili-cache}
export MILI_GOLDEN_PLANS=$here/plans MILI_GOLDEN_MODELS=$here/models
MILI_MIXED_PLANS=$(ls "$here"/mixed/*.mili | paste -sd:)
export MILI_MIXED_PLANS
failures=0
report() { printf '%-28s %s\n' "$1" "$2"; }
run() {  # NAME SECONDS COMMAND...: a line with its exit code and time
  local name=$1 limit=$2 begin=$SECONDS rc
  shift 2
  timeout "$limit" "$@" >"$OUT/$name.log" 2>&1
  rc=$?
  local skipped
  skipped=$(grep -c '^\[  SKIPPED \]' "$OUT/$name.log")
  report "$name" "$([ $rc = 0 ] && echo ok || echo "FAILED, exit $rc") ($((SECONDS - begin)) s)$(
    [ "$skipped" = 0 ] || echo ", $((skipped / 2)) skipped")"
  [ $rc = 0 ] || failures=$((failures + 1))
}
bench() { timeout 40 bin/mili-bench "$@"; }
[ $# -gt 0 ] || set -- test faults
while [ $# -gt 0 ]; do
  what=$1
  shift
  case $what in
  test)
    run golden 40 bin/golden_plans_test
    run mixed 30 bin/mixed_plans_test
    run ops 120 env MILI_OPS_PLANS="$here/ops" bin/ops_plans_test
    run sampling 30 bin/device_sampling_test
    run device 30 bin/runtime_cuda_test
    [ -x bin/attention_harness ] && run attention 40 bin/attention_harness check
    grep -h "relative error of" "$OUT/golden.log"
    grep -h "equal bit by bit" "$OUT/mixed.log"
    grep -h "agree with the reference" "$OUT/ops.log"
    ;;
  faults)
    for plan in faults/*.mili; do
      model=$(basename "$plan" .mili)
      MILI_GOLDEN_PLANS=$here/faults timeout 15 bin/golden_plans_test --gtest_filter="*/$model" >"$OUT/fault-$model.log" 2>&1
      rc=$?
      if [ $rc = 1 ]; then
        report "fault in $model" "caught by $(grep -c 'FAILED  .*ms)' "$OUT/fault-$model.log") tests,$(
          grep -h 'relative error of' "$OUT/fault-$model.log" | sed 's/.*logits//')"
      else
        report "fault in $model" "NOT CAUGHT, exit $rc"
        failures=$((failures + 1))
      fi
    done
    ;;
  sanitize)
    check() { run "$1-$2" 90 compute-sanitizer --tool "$1" --error-exitcode 9 "${@:3}"; }
    check memcheck golden bin/golden_plans_test --gtest_filter='*EveryPromptToken/llama:*EveryPromptToken/qwen3:*FlattenedStep/mistral_window'
    check racecheck golden bin/golden_plans_test --gtest_filter='*EveryPromptToken/llama:*FlattenedStep/qwen3'
    check memcheck sampling bin/device_sampling_test --gtest_filter='*Stop*:*Seed*'
    # One case of each kind.
    mkdir -p /tmp/mili-ops
    for kind in linear gated norm attention long; do
      cp "$(ls ops/$kind-*.mili | head -1)"* /tmp/mili-ops/
    done
    check memcheck ops env MILI_OPS_PLANS=/tmp/mili-ops bin/ops_plans_test
    check racecheck ops env MILI_OPS_PLANS=/tmp/mili-ops bin/ops_plans_test
    grep -h "ERROR SUMMARY\|RACECHECK SUMMARY" "$OUT"/memcheck-*.log "$OUT"/racecheck-*.log
    ;;
  bench)
    for plan in shapes/*.mili; do
      name=$(basename "$plan" .mili)
      case $name in
      *-images) run "bench-$name" 40 bin/mili-bench "$plan" -n 8 -d 1 -r 1 --kernel-cache off ;;
      *)
        run "bench-$name" 60 bin/mili-bench "$plan" -p 512,2048 -n 128 -d 512 --profile --trace "$OUT/trace-$name.json"
        case $name in llama*) run "bench64-$name" 60 bin/mili-bench "$plan" -n 64 -d 1024 -b 64 -r 2 --profile ;; esac
        ;;
      esac
    done
    for log in "$OUT"/bench*.log; do
      echo "== $(basename "$log" .log)"
      grep -v "^$" "$log"
    done
    ;;
  ablate)
    for shape in llama-3.1-8b llama-3.2-1b; do
      for plan in ablate/"$shape"-*.mili; do
        report "$(basename "$plan" .mili)" "$(bench "$plan" -n 128 -d 512 -r 2 2>&1 | grep '^| tg')"
      done
      for flag in --no-graphs --no-dependent-launch; do
        report "$shape $flag" "$(bench "ablate/$shape-all.mili" -n 128 -d 512 -r 2 $flag 2>&1 | grep '^| tg')"
      done
    done
    ;;
  wide)
    run make-wide 200 python3 make_golden.py /tmp/wide --shape wide --only \
      llama,llama-linear,qwen2,qwen3,qwen3-yarn,mistral-window,phi3,phi3-longrope,smollm3,olmo2,granite
    run bf16-reference 120 python3 bf16_reference.py /tmp/wide
    mkdir -p /tmp/wide-plans
    for model in /tmp/wide/*/; do
      timeout 60 bin/mili-compile "$model" -o "/tmp/wide-plans/$(basename "$model").mili" --target cuda:source --requests 3 -q &
    done
    wait
    MILI_GOLDEN_PLANS=/tmp/wide-plans MILI_GOLDEN_MODELS=/tmp/wide run golden-wide 60 bin/golden_plans_test
    grep -h "eager" "$OUT/bf16-reference.log"
    grep -h "relative error of" "$OUT/golden-wide.log"
    ;;
  chat)
    gguf=$1
    shift
    run compile-gpu 60 bin/mili-compile "$gguf" -o /tmp/chat-gpu.mili --target cuda:source --context 2048 -q
    run compile-cpu 60 bin/mili-compile "$gguf" -o /tmp/chat-cpu.mili --context 2048 -q
    for device in gpu cpu; do
      run "chat-$device" 40 bin/mili-run "/tmp/chat-$device.mili" --chat --system "You are a helpful AI assistant." \
        -p "What is the capital of France?" -n 64
      run "logits-$device" 40 bin/mili-run "/tmp/chat-$device.mili" -q -n 0 --logits-out "/tmp/chat-$device.safetensors" \
        -p "Compilers turn programs that people write into programs that machines run; this one is for transformers."
      cat "$OUT/chat-$device.log"
    done
    python3 compare_logits.py /tmp/chat-gpu.safetensors /tmp/chat-cpu.safetensors
    ;;
  *)
    echo "run.sh: unknown: $what" >&2
    exit 2
    ;;
  esac
done
echo "$failures failures"
exit $((failures > 0))
