"""Makes a tiny random BART with a tokenizer, its weights as safetensors and as a state dict, and scores of texts.

The forward pass, the merging of tokens and the state dict are written out here in plain Python, so that the scores owe
nothing to the program that they check, nor to a library. The state dict has the form in which `torch.save` writes it.
"""

import argparse
import json
import math
import pickle
import random
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

WIDTH, HEADS, INNER, POSITIONS, LAYERS = 8, 2, 12, 30, 1
MERGES = ["t h", "th e", "Ġ the", "r e", "re d", "Ġ red", "Ġ c", "a r"]
TEXTS = [
    ("The car is red", "the red car"),
    ("the red car", "the red car"),
    ("A house", "Theatre there"),
    ("", "red"),
    ("the the the the the the the the the the the the the the the the", "car"),
]


def make_config(vocabulary):
    return {
        "model_type": "bart", "activation_function": "gelu", "d_model": WIDTH, "vocab_size": len(vocabulary),
        "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "max_position_embeddings": POSITIONS, "scale_embedding": True,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        "normalize_before": False, "add_final_layer_norm": False,
    }


def make_vocabulary():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [chr(c) for c in range(ord("A"), ord("Z") + 1)] + ["Ġ"]
    words = ["<s>", "<pad>", "</s>", "<unk>"] + letters + [merge.replace(" ", "") for merge in MERGES]
    return {word: at for at, word in enumerate(words)}


def encode(text, vocabulary):
    """Byte-level BPE of letters and single blanks; of a long text the beginning."""
    ids = []
    for at, word in enumerate(text.split()):
        parts = list(word if at == 0 else "Ġ" + word)
        for merge in MERGES:
            left, right = merge.split()
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == (left, right):
                    parts[i : i + 2] = [left + right]
                i += 1
        ids += [vocabulary[part] for part in parts]
    return [0, *ids[: POSITIONS - 2], 2]


def make_weights(n_words, draw):
    shapes = OrderedDict({"final_logits_bias": (1, n_words), "model.shared.weight": (n_words, WIDTH)})
    for stack in ("encoder", "decoder"):
        shapes[f"model.{stack}.embed_positions.weight"] = (POSITIONS + 2, WIDTH)
        norms = [f"model.{stack}.layernorm_embedding"]
        for layer in range(LAYERS):
            at = f"model.{stack}.layers.{layer}"
            for attention in ("self_attn", "encoder_attn")[: 1 + (stack == "decoder")]:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes[f"{at}.{attention}.{part}.weight"] = (WIDTH, WIDTH)
                    shapes[f"{at}.{attention}.{part}.bias"] = (WIDTH,)
                norms.append(f"{at}.{attention}_layer_norm")
            shapes[f"{at}.fc1.weight"], shapes[f"{at}.fc1.bias"] = (INNER, WIDTH), (INNER,)
            shapes[f"{at}.fc2.weight"], shapes[f"{at}.fc2.bias"] = (WIDTH, INNER), (WIDTH,)
            norms.append(f"{at}.final_layer_norm")
        for norm in norms:
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (WIDTH,)
    rounded = lambda x: struct.unpack("<f", struct.pack("<f", x))[0]
    return OrderedDict((name, (shape, [rounded(draw.gauss(0, 0.6)) for _ in range(math.prod(shape))])) for name, shape in shapes.items())


class Model:
    def __init__(self, weights):
        self.weights = weights

    def rows(self, name):
        (_, width), values = self.weights[name]
        return [values[at : at + width] for at in range(0, len(values), width)]

    def linear(self, name, x):
        bias = self.weights[name + ".bias"][1]
        return [[sum(map(lambda a, b: a * b, row, column)) + b for column, b in zip(self.rows(name + ".weight"), bias)] for row in x]

    def norm(self, name, x):
        weight, bias = self.weights[name + ".weight"][1], self.weights[name + ".bias"][1]
        normed = []
        for row in x:
            mean = sum(row) / len(row)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + 1e-5)
            normed.append([(v - mean) / deviation * w + b for v, w, b in zip(row, weight, bias)])
        return normed

    def attention(self, name, x, seen, causal):
        queries, keys, values = (self.linear(f"{name}.{part}", of) for part, of in (("q_proj", x), ("k_proj", seen), ("v_proj", seen)))
        width = WIDTH // HEADS
        out = []
        for t, query in enumerate(queries):
            row = []
            for head in range(HEADS):
                part = slice(head * width, (head + 1) * width)
                n_seen = t + 1 if causal else len(seen)
                logits = [sum(a * b for a, b in zip(query[part], key[part])) / math.sqrt(width) for key in keys[:n_seen]]
                weights = [math.exp(logit - max(logits)) for logit in logits]
                row += [sum(w * v[part][i] for w, v in zip(weights, values)) / sum(weights) for i in range(width)]
            out.append(row)
        return self.norm(f"{name}_layer_norm", add(x, self.linear(f"{name}.out_proj", out)))

    def stack(self, stack, ids, memory=None):
        table, places = self.rows("model.shared.weight"), self.rows(f"model.{stack}.embed_positions.weight")
        x = [[v * math.sqrt(WIDTH) + p for v, p in zip(table[id], places[at + 2])] for at, id in enumerate(ids)]
        x = self.norm(f"model.{stack}.layernorm_embedding", x)
        for layer in range(LAYERS):
            at = f"model.{stack}.layers.{layer}"
            x = self.attention(f"{at}.self_attn", x, x, causal=memory is not None)
            if memory is not None:
                x = self.attention(f"{at}.encoder_attn", x, memory, causal=False)
            inner = [[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in self.linear(f"{at}.fc1", x)]
            x = self.norm(f"{at}.final_layer_norm", add(x, self.linear(f"{at}.fc2", inner)))
        return x

    def score(self, source, target):
        hidden = self.stack("decoder", [2, *target[:-1]], self.stack("encoder", source))
        table, bias = self.rows("model.shared.weight"), self.weights["final_logits_bias"][1]
        total = 0.0
        for row, token in zip(hidden, target):
            logits = [sum(a * b for a, b in zip(row, word)) + b for word, b in zip(table, bias)]
            total += logits[token] - max(logits) - math.log(sum(math.exp(logit - max(logits)) for logit in logits))
        return total / len(target)


def add(x, y):
    return [[a + b for a, b in zip(*rows)] for rows in zip(x, y)]


def save_safetensors(path, weights):
    header, data = {}, b""
    for name, (shape, values) in weights.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def save_state_dict(path, weights):
    """As `torch.save(model.state_dict(), path)`: a zip archive with a pickle that names PyTorch's own classes."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    rebuild = lambda *arguments: None
    rebuild.__module__, rebuild.__name__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    sys.modules.update({"torch": torch, "torch._utils": utils})

    class Storage:
        def __init__(self, key, n_values):
            self.key, self.n_values = key, n_values

    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, shape

        def __reduce__(self):
            strides = tuple(math.prod(self.shape[at + 1 :]) for at in range(len(self.shape)))
            storage = Storage(self.key, math.prod(self.shape))
            return rebuild, (storage, 0, tuple(self.shape), strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, value.key, "cpu", value.n_values) if isinstance(value, Storage) else None

    state = OrderedDict((name, Tensor(str(at), shape)) for at, (name, (shape, _)) in enumerate(weights.items()))
    state._metadata = OrderedDict({"": {"version": 1}})
    with zipfile.ZipFile(path, "w") as archive:
        place = lambda name: zipfile.ZipInfo(f"bart/{name}")
        with archive.open(place("data.pkl"), "w") as file:
            Pickler(file, protocol=2).dump(state)
        for at, (_, values) in enumerate(weights.values()):
            archive.writestr(place(f"data/{at}"), struct.pack(f"<{len(values)}f", *values))
        archive.writestr(place("version"), "3\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    vocabulary = make_vocabulary()
    weights = make_weights(len(vocabulary), random.Random(arguments.seed))
    model = Model(weights)
    score = lambda source, target: model.score(encode(source, vocabulary), encode(target, vocabulary))
    cases = [{"source": source, "target": target, "score": score(source, target)} for source, target in TEXTS]
    write = lambda name, value: (arguments.out / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write("config.json", make_config(vocabulary))
    write("vocab.json", vocabulary)
    write("cases.json", {"cases": cases})
    (arguments.out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    save_safetensors(arguments.out / "model.safetensors", weights)
    save_state_dict(arguments.out / "bart.pth", weights)


if __name__ == "__main__":
    main()
