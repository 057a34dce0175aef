#!/usr/bin/env bash
# Masks of the images in /input by the model in /model, into /output. Arguments go on to `nnunet-diffusion predict`.
# Variables: DEVICE (cpu, cuda); KEEP_ALL=1 also keeps probabilities, entropy, timesteps and tables.
set -euo pipefail
input=${INPUT:-/input} output=${OUTPUT:-/output} model=${MODEL:-/model}

refuse() {
    echo "$1" >&2
    exit 2
}

[ -d "$input" ] || refuse "There is no folder $input. Mount the images: -v IMAGES:$input:ro"
[ -f "$model/plans.json" ] || refuse "$model holds no plans.json. Mount a trained model, the folder of nnUNet_results\
 that is called TRAINER__PLANS__CONFIGURATION: -v FOLDER:$model:ro"
folds=()
for checkpoint in "$model"/fold_*/checkpoint_final.pth; do
    [ -f "$checkpoint" ] || refuse "$model holds no fold_*/checkpoint_final.pth: no training of it is finished."
    fold=$(basename "$(dirname "$checkpoint")")
    folds+=("${fold#fold_}")
done
work=$(mktemp -d "$output/.unfinished_XXXXXX" 2> /dev/null) || refuse "User $(id -u) cannot write to $output. Mount a\
 folder of that user's (-v MASKS:$output), or run as its owner: --user \$(id -u)"
trap 'rm -rf "$work"' EXIT
nnunet-diffusion predict -i "$input" -o "$work/all" -m "$model" -f "${folds[@]}" -device "${DEVICE:-cpu}" "$@"
if [ -n "${KEEP_ALL:-}" ]; then
    cp -a "$work/all/." "$output"
else
    find "$work/all" -maxdepth 1 -type f ! -name '.*' ! -name '*.json' ! -name '*.csv' -exec mv -t "$output" {} +
fi
