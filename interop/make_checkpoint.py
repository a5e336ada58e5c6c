"""A random checkpoint of any shape, made by transformers, for `make_cases.py` and `mmrag model check`.

    python interop/make_checkpoint.py --config config.json [--dtype bfloat16] [--shard 200KB] [--published] --out DIR

Every weight is drawn, norms and biases too, so that no part of the architecture goes unnoticed. With --published,
names are those of Qwen2.5-VL as published. The image processor's bounds are small, so that its pictures are.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shard", default="5GB", help="largest file")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(args.config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.6 / weight[0].numel() ** 0.5)
            else:
                weight.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
    model.to(getattr(torch, args.dtype)).save_pretrained(args.out, max_shard_size=args.shard)
    (args.out / "generation_config.json").unlink(missing_ok=True)
    if args.published:
        rename(args.out)
    shutil.copy(args.config, args.out / "config.json")
    vision = json.loads(args.config.read_text())["vision_config"]
    side = vision["patch_size"] * vision["spatial_merge_size"]
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
        "merge_size": vision["spatial_merge_size"],
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision.get("temporal_patch_size", 2),
        "min_pixels": 2 * side * side,
        "max_pixels": 9 * side * side,
    }
    (args.out / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")


def rename(folder):
    """`model.visual.*` to `visual.*`, and `model.language_model.*` to `model.*`."""
    for file in folder.glob("*.safetensors"):
        tensors = {published(name): tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    for file in folder.glob("*.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {published(name): shard for name, shard in index["weight_map"].items()}
        file.write_text(json.dumps(index, indent=1) + "\n")


def published(name):
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


if __name__ == "__main__":
    main()
