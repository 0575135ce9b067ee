#!/usr/bin/env bash
# Fuzzes every target for some seconds each: bash fuzz/run.sh SECONDS [TARGET...]
# Seeds are those of fuzz/seeds.py and tests/fuzz. What is found is written into fuzz/artifacts/TARGET.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=$1
shift
built=$(bash "$here/build.sh" any | tail -1)
python3 "$here/seeds.py"
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in "$here"/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
    targets=("${targets[@]/any/}")
fi
failed=()
for target in ${targets[@]}; do
    corpus="$here/corpus/$target" artifacts="$here/artifacts/$target" log="$here/artifacts/$target.log"
    mkdir -p "$corpus" "$artifacts"
    # A graph may ask for memory that the program refuses to a process, but the library does not.
    memory=1024
    [ "$target" = verify ] && memory=4096
    seeds=()
    [ -d "$here/../tests/fuzz/$target" ] && seeds+=("$here/../tests/fuzz/$target")
    if ! CLIP_ONNX_FUZZ=$target "$built/any" "$corpus" "${seeds[@]}" -max_total_time="$seconds" -max_len=16384 -timeout=60 \
        -rss_limit_mb="$memory" -malloc_limit_mb="$memory" -artifact_prefix="$artifacts/" -print_final_stats=1 \
        -verbosity=1 >"$log" 2>&1; then
        failed+=("$target")
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -1)
    peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    echo "$target: ${runs:-?} executions, $cover, peak $peak MB$([ -n "$(ls "$artifacts")" ] && echo ", FOUND $(ls "$artifacts" | wc -l)")"
done
rm -rf /dev/shm/clip-onnx-fuzz-*
if [ ${#failed[@]} -gt 0 ]; then
    echo "findings of ${failed[*]} are in fuzz/artifacts" >&2
    exit 1
fi
