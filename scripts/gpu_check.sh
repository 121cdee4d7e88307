#!/usr/bin/env bash
# What has to be seen on a GPU, in under eight minutes: tests, speeds, equal runs, a killed run that goes on.
#
#   bash scripts/gpu_check.sh                        on a CUDA device
#   bash scripts/gpu_check.sh --device cpu --quick   every step on the CPU with tiny sizes, to see that it works
#   bash scripts/gpu_check.sh --only bf16,kill       some of the steps (their names are printed)
#
# A machine with Python, torch, torchvision and pytorch-lightning, but without Hydra and network, needs a folder `carry`
# in the checkout, of packages in pure Python, made elsewhere with this command:
#
#   pip install --target carry --no-deps hydra-core==1.3.8 omegaconf==2.3.1 antlr4-python3-runtime==4.9.3 \
#       nltk==3.10.4 defusedxml==0.7.1 edfio==0.4.18 filelock==4.2.12
#
# Steps print as they go. Each is ended after its time, and so is the whole; a step that fails does not stop the others.
# Exit code: 0, or 1 if a step failed or was ended.
set -u
cd "$(dirname "$0")/.."

device=cuda quick=no only=all total=470 slow=1
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift 2 ;;
        --quick) quick=yes slow=8 total=$((470 * slow)); shift ;; # a CPU is, however little there is to do
        --only) only=$2; shift 2 ;;
        --total) total=$2; shift 2 ;;
        *) echo "no option '$1': --device cpu|cuda, --quick, --only STEPS, --total SECONDS" >&2; exit 2 ;;
    esac
done

export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD:$PWD/carry${PYTHONPATH:+:$PYTHONPATH}"
python=$(command -v python3 || command -v python)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# step NAME SECONDS COMMAND...: run it within its time, and within what is left of the whole.
step() {
    local name=$1 seconds=$(($2 * slow)) started=$SECONDS left=$((total - SECONDS)) code
    shift 2
    [[ $only = all || ",$only," = *",$name,"* ]] || return 0
    [ "$seconds" -lt "$left" ] || seconds=$left
    printf '\n== %s (at most %s s) ==\n' "$name" "$seconds"
    if [ "$seconds" -lt 5 ]; then echo "no time left"; failed+=("$name"); return 0; fi
    timeout --kill-after=5 "$seconds" "$@" 2>&1
    code=$?
    [ $code -eq 0 ] || failed+=("$name")
    printf -- '-- %s: %s s, exit code %s%s\n' "$name" $((SECONDS - started)) $code "$([ $code -eq 124 ] && echo ' (ended: out of time)')"
}

# one_epoch MORE...: an epoch of the published network for pairs of sentences, and its speed, from the run's history.
one_epoch() {
    "$python" -m dir_bench.cli data sample sts_b --data "$work/data" --size "$pairs" &&
        "$python" -m dir_bench.cli train dataset=sts_b paths.data="$work/data" paths.outputs="$work/outputs" \
            trainer.accelerator="$device" trainer.figures=false trainer.progress=false "$@" &&
        awk -F, '{ print $1 ", " $2 ", " $3 ", " $NF }' "$work"/outputs/sts_b/*/*/history.csv
}
export -f one_epoch
export python work device

if [ "$quick" = yes ]; then
    tests=(tests/methods/test_fds_moments.py)
    fds=(--repeats 1 --warm-up 0 --epochs 0 --rows 1024)
    faces=(--images 48 --batch 8 --backbone cnn --rounds 1 --set dataset.source.size=16 dataset.source.padding=2)
    depth=(--images 4 --batch 2 --backbone depth_small --rounds 1 --set dataset.source.rotation_order=1)
    maps=(--images 2 --repeats 1) pairs=200 texts=(backbone=bilstm_small trainer.max_steps=2 trainer.epochs=1)
    kills=(--runs 1 --data arrays)
else
    tests=(tests/methods/test_fds.py tests/methods/test_fds_moments.py tests/methods/test_resample.py
        tests/training/test_batch_norm.py tests/datasets/pictures/test_augment.py tests/training/test_checkpoint_writer.py
        tests/training/test_imagined_gpu.py)
    fds=(--repeats 5 --epochs 5)
    faces=(--images 2600 --batch 256 --backbone resnet50 --rounds 3 --set trainer.workers=4)
    depth=(--images 96 --batch 32 --backbone depth_resnet50 --rounds 2 --set trainer.workers=4)
    maps=(--images 16 --repeats 1) pairs=6000 texts=(trainer.epochs=3)
    kills=(--runs 1 --data gauge)
fi
export pairs

# What runs where; the least that must be seen comes first.
step device 30 "$python" -c "
import torch
name = torch.cuda.get_device_name() if '$device' == 'cuda' else 'CPU'
print(name, 'torch', torch.__version__, 'CUDA', torch.version.cuda, torch.get_num_threads(), 'CPU threads')"
step tests 70 "$python" -m pytest -q -m gpu -p no:cacheprovider "${tests[@]}"
step fds 45 "$python" scripts/bench_fds.py --device "$device" "${fds[@]}"
step fp32 75 "$python" scripts/bench_train.py --device "$device" --data "$work/data" "${faces[@]}"
step bf16 55 "$python" scripts/bench_train.py --device "$device" --data "$work/data" --precision bf16-mixed "${faces[@]}"
step kill 90 "$python" scripts/kill_test.py --accelerator "$device" "${kills[@]}"
step sts_b 50 bash -c 'one_epoch "$@"' one_epoch "${texts[@]}"
step depth 60 "$python" scripts/bench_train.py --device "$device" --data "$work/data" --dataset nyud2 --precision bf16-mixed "${depth[@]}"
step maps 40 "$python" scripts/bench_depth.py --device "$device" "${maps[@]}"
step compile 120 "$python" scripts/bench_train.py --device "$device" --data "$work/data" --precision bf16-mixed \
    "${faces[@]}" trainer.compile=true --variants trainer

printf '\n%s s in all; %s\n' "$SECONDS" "$([ ${#failed[@]} -eq 0 ] && echo 'every step went well' || echo "failed: ${failed[*]}")"
[ ${#failed[@]} -eq 0 ]
