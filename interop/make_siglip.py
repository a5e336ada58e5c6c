"""A tiny random SigLIP and the vectors that transformers makes of texts and of a picture.

    make_siglip.py OUT [--seed N]

OUT becomes a folder as SigLIP 1 has it on the hub: bicubic pictures, texts without punctuation. What
SigLIP 2 of a fixed resolution has otherwise (bilinear pictures, texts that are put in lower case alone)
lies beside it as `preprocessor_config.2.json` and `tokenizer_config.2.json`, and its vectors in the same
`cases.json`. Keys that have their default are left out of the config, as published folders leave them out.
"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipTokenizer

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "house", "by", "the", "sea", "tower", "towers", "the,"]
TEXTS = ["A red house, by the sea!", "the tower's tower", "towers " * 20, "Nothing"]
PLACES = 9
SIDE = 16
DEFAULTS = {"hidden_act", "layer_norm_eps", "attention_dropout", "num_channels", "vision_use_head"}


def config():
    shared = {"num_hidden_layers": 2}
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 28, "num_attention_heads": 2}
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "image_size": SIDE, "patch_size": 8}
    return SiglipConfig(
        # The width of the vectors is that of pictures, and not that of the text tower.
        text_config={**text, **shared, "max_position_embeddings": PLACES, "projection_size": 24},
        vision_config={**vision, **shared},
    )


def tokenizer():
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


class Canonical:
    """The part of SiglipTokenizer that needs no vocabulary."""

    do_lower_case = True
    remove_punctuation = SiglipTokenizer.remove_punctuation
    canonicalize_text = SiglipTokenizer.canonicalize_text


def ids_of(made, text, pad):
    ids = made.encode(text).ids
    if len(ids) > PLACES:
        made.enable_truncation(PLACES)
        ids = made.encode(text).ids
        made.no_truncation()
    return ids + [pad] * (PLACES - len(ids))


def unit(vector):
    return (vector / vector.norm()).tolist()


def without_defaults(part):
    return {key: value for key, value in part.items() if key not in DEFAULTS}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    arguments = arguments.parse_args()
    out = arguments.out
    torch.manual_seed(arguments.seed)
    model = SiglipModel(config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(out)
    for extra in ["generation_config.json"]:
        (out / extra).unlink(missing_ok=True)
    saved = json.loads((out / "config.json").read_text())
    for part in ["text_config", "vision_config"]:
        saved[part] = without_defaults(saved[part])
    (out / "config.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")

    made = tokenizer()
    made.save(str(out / "tokenizer.json"))
    styles = {
        "": {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "padding_side": "right"},
        ".2": {"tokenizer_class": "GemmaTokenizer", "pad_token": {"content": "<pad>"}, "padding_side": "right"},
    }
    y, x = torch.meshgrid(torch.arange(37), torch.arange(52), indexing="ij")
    channels = [(7 * x + 3 * y) % 256, (x * y) % 256, (5 * y + 90) % 256]
    picture = Image.fromarray(torch.stack(channels, -1).to(torch.uint8).numpy())
    picture.save(out / "picture.png")

    cases = {}
    for name, style in styles.items():
        processor = SiglipImageProcessorPil(
            size={"height": SIDE, "width": SIDE}, resample=3 if name == "" else 2
        )
        pixels = processor(picture, return_tensors="pt").pixel_values
        pad = WORDS.index("</s>" if name == "" else "<pad>")
        plain = (lambda text: Canonical().canonicalize_text(text)) if name == "" else str.lower
        texts = []
        with torch.no_grad():
            image = model.get_image_features(pixel_values=pixels).pooler_output[0]
            for text in TEXTS:
                ids = ids_of(made, plain(text), pad)
                vector = model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0]
                texts.append({"text": text, "ids": ids, "vector": unit(vector)})
        cases["siglip" + name] = {"image": unit(image), "texts": texts}
        kept = ["do_normalize", "do_rescale", "do_resize", "image_mean", "image_std", "resample", "rescale_factor", "size"]
        settings = {key: value for key, value in processor.to_dict().items() if key in kept}
        (out / f"preprocessor_config{name}.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        (out / f"tokenizer_config{name}.json").write_text(json.dumps(style, indent=1) + "\n")
    (out / "cases.json").write_text(json.dumps(cases) + "\n")


main()
