"""Reference outputs of a checkpoint, made by transformers (and PEFT), for `mmrag model check`.

    python interop/make_cases.py --model DIR [--adapter DIR] [--image FILE ...] --out CASES
    mmrag model check --model DIR [--adapter DIR] --cases CASES

Needs torch, torchvision, transformers, peft, pillow and safetensors. Text tokens are drawn: what
they say does not matter, and every folder can be checked, one without a tokenizer too.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModelForImageTextToText

SCORED = 8  # tokens at the end that the loss is the mean of
GREEDY = 12  # tokens to go on with


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="a PEFT folder to put on")
    parser.add_argument("--image", type=Path, nargs="*", default=[])
    parser.add_argument("--gradients", action="store_true", help="of every weight too; without an adapter")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter)
    model.eval()
    args.out.mkdir(parents=True, exist_ok=True)
    cases, tensors = [], {}
    for label, images in [("text_only", []), ("images", args.image)]:
        if label == "images" and not images:
            continue
        cases.append({"label": label, "images": [image.name for image in images]})
        for image in images:
            shutil.copy(image, args.out / image.name)
        for name, tensor in outputs(model, args.model, images, args.gradients).items():
            tensors[f"{label}.{name}"] = tensor.detach().clone().contiguous()
    (args.out / "cases.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")
    save_file(tensors, args.out / "cases.safetensors")
    print(f"{args.out}: {len(cases)} cases, {len(tensors)} tensors")


def outputs(model, folder, images, gradients):
    """What the reference makes of drawn text around the images."""
    config = model.config
    vocabulary = config.get_text_config().vocab_size
    special = {config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id}
    usable = torch.tensor([token for token in range(vocabulary) if token not in special])

    def text(count):
        return usable[torch.randint(len(usable), (count,))].tolist()

    ids, inputs = text(9), {}
    if images:
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        pixels = processor(images=[Image.open(image).convert("RGB") for image in images], return_tensors="pt")
        inputs = {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"]}
        for grid in inputs["image_grid_thw"]:
            count = int(grid.prod()) // config.vision_config.spatial_merge_size**2
            ids += [config.vision_start_token_id, *[config.image_token_id] * count, config.vision_end_token_id, *text(5)]
    ids += text(SCORED + 5)
    input_ids = torch.tensor([ids])
    made = {"input_ids": input_ids[0], **inputs}

    def run(ids, **more):
        if images:  # which tokens stand for pictures
            more["mm_token_type_ids"] = (ids == config.image_token_id).long()
        return model(input_ids=ids, **inputs, **more)

    with torch.no_grad():
        result = run(input_ids, output_hidden_states=True)
        scores = result.logits[0].log_softmax(-1)
        chosen = scores[:-1].gather(-1, input_ids[0, 1:, None])[:, 0]
        grown = input_ids
        for _ in range(GREEDY):  # no end of turn, no cache: the plainest form
            grown = torch.cat([grown, run(grown).logits[:, -1].argmax(-1, keepdim=True)], 1)
    made["logits"] = result.logits[0]
    made["last_hidden_state"] = result.hidden_states[-1][0]
    made["token_logprobs"] = chosen
    made["loss"] = -chosen[-SCORED:].mean().reshape(1)
    made["greedy_new_tokens"] = grown[0, len(ids) :]
    if gradients:
        model.zero_grad()
        scores = run(input_ids).logits[0].log_softmax(-1)
        chosen = scores[:-1].gather(-1, input_ids[0, 1:, None])[:, 0]
        (-chosen[-SCORED:].mean()).backward()
        made |= {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return made


if __name__ == "__main__":
    main()
