"""Small picture files of every kind, and the RGB pixels that Pillow reads from them as transformers' `load_image` does.

    python interop/make_pictures.py --out crates/model/tests/fixtures/pictures
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageOps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    smooth = picture(lambda x, y: (10 * x + 20, 15 * y + 30, 200 - 6 * x - 4 * y))
    sharp = picture(lambda x, y: [(250, 20, 20), (20, 240, 30), (15, 25, 235)][(x // 3 + y // 4) % 3])
    alpha = sharp.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(sharp.size))
    palette = sharp.quantize(8)

    sharp.save(out / "rgb.png")
    alpha.save(out / "alpha.png")
    palette.save(out / "palette.png", transparency=2)
    smooth.save(out / "full.jpg", quality=95, subsampling=0)
    smooth.save(out / "halved.jpg", quality=90, subsampling=2)
    sharp.save(out / "sharp.jpg", quality=75, subsampling=2)
    smooth.save(out / "progressive.jpg", quality=90, progressive=True)
    smooth.convert("L").save(out / "grey.jpg", quality=90)
    smooth.convert("CMYK").save(out / "cmyk.jpg", quality=95)
    # Noise makes every coefficient count, and these sizes every kind of edge.
    noisy(53, 35).save(out / "noisy_420.jpg", quality=75, subsampling=2)
    noisy(64, 48).save(out / "noisy_whole_blocks.jpg", quality=30, subsampling=2)
    noisy(37, 21).save(out / "noisy_422.jpg", quality=75, subsampling=1)
    noisy(40, 24).save(out / "noisy_444.jpg", quality=90, subsampling=0)
    noisy(47, 33).save(out / "noisy_progressive.jpg", quality=80, subsampling=2, progressive=True)
    noisy(50, 34).save(out / "noisy_restarts.jpg", quality=85, subsampling=2, restart_marker_rows=1)
    noisy(3, 17).save(out / "noisy_narrow.jpg", quality=95, subsampling=2)
    noisy(39, 27).convert("L").save(out / "noisy_grey.jpg", quality=70)
    noisy(33, 25).convert("CMYK").save(out / "noisy_cmyk.jpg", quality=85)
    sharp.save(out / "lossless.webp", lossless=True)
    alpha.save(out / "alpha.webp", lossless=True, exact=True)
    smooth.save(out / "lossy.webp", quality=90)
    palette.save(out / "still.gif")
    palette.save(out / "transparent.gif", transparency=3)
    moving = [sharp.quantize(8), smooth.quantize(8), sharp.rotate(180).quantize(8)]
    moving[0].save(out / "moving.gif", save_all=True, append_images=moving[1:], duration=50, loop=0)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        sharp.save(out / f"turned_{turn}.png", exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth.save(out / "turned.jpg", quality=95, subsampling=0, exif=exif)
    sharp.save(out / "turned.webp", lossless=True, exif=exif)
    sharp.save(out / "turned.tiff", tiffinfo={0x0112: 6})

    seen = {}
    for file in sorted(out.iterdir()):
        if file.suffix != ".json":
            image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
            seen[file.name] = {"size": image.size, "rgb": image.tobytes().hex()}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in seen.items()]
    (out / "pillow.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def noisy(width, height):
    """Slopes under noise, with a hard edge."""
    draws = random.Random(f"{width}x{height}")

    def colour(x, y):
        if height // 3 <= y < height // 2 and width // 4 <= x < width // 2:
            return (0, 255, 0)
        slopes = [(x * (3 + c) + y * (7 - 2 * c)) % 256 for c in range(3)]
        return [min(255, max(0, round(slope + draws.gauss(0, 25)))) for slope in slopes]

    return picture(colour, width, height)


def picture(colour, width=18, height=13):
    image = Image.new("RGB", (width, height))
    image.putdata([tuple(colour(x, y)) for y in range(height) for x in range(width)])
    return image


if __name__ == "__main__":
    main()
