#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Fuzzing with libFuzzer, which needs clang; with AddressSanitizer and UBSan.
#
#   tests/fuzz/run.sh TARGET [SECONDS]     arguments, config, fuse or message; 60 seconds
#   tests/fuzz/run.sh TARGET merge         what the corpus lacks of what has been found
#
# What is found of interest is kept in build-fuzz/corpus/TARGET, what fails in build-fuzz/findings. A
# failure goes, made small (-minimize_crash=1), into tests/fuzz/corpus/TARGET with a name that says what
# it was about; from there CI plays it again, see tests/fuzz/replay.c.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."

target=${1:?usage: tests/fuzz/run.sh TARGET [SECONDS | merge]}
seconds=${2:-60}
build=build-fuzz
program=$build/tests/fuzz/fuzz-$target
corpus=tests/fuzz/corpus/$target
[ -d "$corpus" ] || { echo "no target \"$target\"; there are:" tests/fuzz/corpus/* >&2 && exit 2; }

if [ ! -f $build/build.ninja ]; then
    CC=${CC:-clang} meson setup $build -Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false >&2
fi
ninja -C $build "${program#"$build/"}" >&2
mkdir -p "$build/corpus/$target" $build/findings

export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1:detect_leaks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
if [ "$seconds" = merge ]; then
    exec "$program" -merge=1 -max_len=4096 "$corpus" "$build/corpus/$target"
fi
exec "$program" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" "$corpus"
