"""Small picture files of every kind, and the RGB pixels that Pillow reads from them as transformers' `load_image` does.

    python interop/make_pictures.py --out crates/model/tests/fixtures/pictures
"""

import argparse
import json
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


def picture(colour):
    width, height = 18, 13
    image = Image.new("RGB", (width, height))
    image.putdata([tuple(colour(x, y)) for y in range(height) for x in range(width)])
    return image


if __name__ == "__main__":
    main()
