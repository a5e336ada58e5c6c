//! Pictures to patches: the fixtures' numbers, Pillow's conversions, and what is refused.

#![expect(clippy::print_stdout, reason = "what was skipped or measured is told")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use mmrag_core::ImageSource;
use mmrag_model::{ImageProcessor, Weights};

fn fixtures() -> PathBuf {
    std::env::var_os("MMRAG_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), PathBuf::from)
}

/// One patch is one pixel, so that the values are the colours.
fn one_pixel_processor() -> ImageProcessor {
    ImageProcessor {
        patch_size: 1,
        temporal_patch_size: 1,
        merge_size: 1,
        min_pixels: 1,
        max_pixels: 1 << 20,
        rescale_factor: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

fn from_hex(text: &str) -> ImageSource {
    let bytes: Vec<u8> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect();
    ImageSource::Bytes(bytes.into())
}

fn png(image: &image::DynamicImage) -> ImageSource {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    ImageSource::Bytes(bytes.into_inner().into())
}

fn check_fixture(model: &str) {
    let dir = fixtures().join(model);
    let processor = ImageProcessor::load(&dir).unwrap();
    let golden = Weights::open_file(dir.join("cases.safetensors")).unwrap();
    let cases = fs::read_to_string(dir.join("cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&cases).unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let (label, images) = (case["label"].as_str().unwrap(), case["images"].as_array().unwrap());
        if images.is_empty() {
            continue;
        }
        let (mut values, mut grids) = (Vec::new(), Vec::new());
        for image in images {
            let source = ImageSource::Path(dir.join(image.as_str().unwrap()));
            let pixels = processor.process(&source).unwrap();
            assert_eq!(processor.grid(&source).unwrap(), pixels.grid);
            values.extend(pixels.values);
            grids.extend(pixels.grid.map(|side| side as i64));
        }
        assert_eq!(grids, golden.i64(&format!("{label}.image_grid_thw")).unwrap(), "{label}");
        let name = format!("{label}.pixel_values");
        let expected = golden.f32(&name, golden.shape(&name).unwrap()).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values.len(), expected.len(), "{label}");
        let difference =
            values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{model} {label}: largest difference {difference:e}");
        assert!(difference <= 1e-5, "{model} {label}: {difference}");
    }
}

#[test]
fn patches_are_those_of_transformers() {
    check_fixture("qwen3_vl_tiny");
    check_fixture("qwen2_5_vl_tiny");
}

/// Expected colours: Pillow 13, `Image.open(…).convert("RGB")`.
#[test]
fn colours_are_converted_as_pillow_does() {
    let grey = |values: &[u8]| values.iter().flat_map(|value| [*value; 3]).collect::<Vec<u8>>();
    let cases: [(&str, &str, Vec<u8>); 10] = [
        (
            "16-bit grey",
            "89504e470d0a1a0a0000000d494844520000000c0000000110000000009f10cca60000001d4944415478da05c1010100300c833050be2a3f4f00e41889ba6bbcea033d9e087dd154af830000000049454e44ae426082",
            grey(&[0, 1, 127, 128, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        (
            "16-bit grey with alpha",
            "89504e470d0a1a0a0000000d494844520000000c00000001100400000010725bf1000000284944415478da0dc8c10d000008c2408883ebb84e21f671214552ad8cc620b5e6339fe9a6873e36787e471381abc671fc0000000049454e44ae426082",
            grey(&[0, 0, 0, 0, 0, 1, 1, 1, 127, 128, 254, 255]),
        ),
        (
            "16-bit RGB",
            "89504e470d0a1a0a0000000d494844520000000400000001100200000026ce44d90000001d4944415478da05c1010100300c833050be2a3f4f00e41889ba6bbcea033d9e087dd154af830000000049454e44ae426082",
            vec![0, 0, 0, 0, 0, 1, 1, 1, 127, 128, 254, 255],
        ),
        (
            "16-bit RGBA",
            "89504e470d0a1a0a0000000d49484452000000030000000110060000004b70c8f70000001d4944415478da05c1010100300c833050be2a3f4f00e41889ba6bbcea033d9e087dd154af830000000049454e44ae426082",
            vec![0, 0, 0, 0, 1, 1, 127, 128, 254],
        ),
        (
            "1-bit grey",
            "89504e470d0a1a0a0000000d4948445200000003000000010100000000339b29190000000a4944415478da6358000000a200a17105cb410000000049454e44ae426082",
            grey(&[255, 0, 255]),
        ),
        (
            "2-bit grey",
            "89504e470d0a1a0a0000000d494844520000000400000001020000000096e748b00000000a4944415478da63900600001d001c237c8fac0000000049454e44ae426082",
            grey(&[0, 85, 170, 255]),
        ),
        (
            "4-bit grey",
            "89504e470d0a1a0a0000000d494844520000000200000001040000000014b9cd570000000a4944415478da63b00100003e003d87a66e6f0000000049454e44ae426082",
            grey(&[51, 204]),
        ),
        (
            "palette with transparency",
            "89504e470d0a1a0a0000000d49484452000000030000000108030000002c3ee48600000009504c54450a141e28323c46505a16ac84740000000274524e5300809b2b4e180000000c4944415478da63606064020000080004081d630a0000000049454e44ae426082",
            vec![10, 20, 30, 40, 50, 60, 70, 80, 90],
        ),
        (
            "RGB with a transparent colour",
            "89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd0000000674524e53000100020003c94babf50000000f4944415478da636064626661650300003f001698c168130000000049454e44ae426082",
            vec![1, 2, 3, 4, 5, 6],
        ),
        (
            "grey with alpha",
            "89504e470d0a1a0a0000000d49484452000000020000000108040000005e2bb7010000000d4944415478da63606738f11f0002b001cf2f6e35aa0000000049454e44ae426082",
            grey(&[7, 200]),
        ),
    ];
    for (what, file, expected) in cases {
        let pixels = one_pixel_processor().process(&from_hex(file)).unwrap();
        let colours: Vec<u8> = pixels.values.iter().map(|value| *value as u8).collect();
        assert_eq!(colours, expected, "{what}");
    }
}

/// Files of every kind as Pillow wrote them, against the pixels that Pillow reads from them
/// (interop/make_pictures.py): the same to the last bit.
#[test]
fn files_of_every_kind_are_read_as_pillow_reads_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let seen = fs::read_to_string(dir.join("pillow.json")).unwrap();
    let seen: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen.len(), 35);
    for (name, expected) in &seen {
        let source = ImageSource::Path(dir.join(name));
        let pixels = one_pixel_processor().process(&source).unwrap();
        let grid = [1, 1, 0].map(|side| expected["size"][side].as_u64().unwrap() as usize);
        assert_eq!(pixels.grid[1..], grid[1..], "{name}");
        assert_eq!(one_pixel_processor().grid(&source).unwrap(), pixels.grid, "{name}");
        let ImageSource::Bytes(theirs) = from_hex(expected["rgb"].as_str().unwrap()) else {
            unreachable!()
        };
        let ours = pixels.values.iter().copied();
        assert!(ours.eq(theirs.iter().map(|&value| f32::from(value))), "{name}");
    }
}

/// Damage at every place of a JPEG file gives other pixels or an error, never a panic.
#[test]
fn damaged_jpegs_are_read_as_far_as_they_go_or_refused() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let rounds: u32 = std::env::var("MMRAG_ROUNDS").map_or(400, |rounds| rounds.parse().unwrap());
    let mut state = 1u64;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let (mut read, mut refused) = (0, 0);
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let whole = fs::read(path).unwrap();
        for round in 0..rounds {
            let mut bytes = whole.clone();
            for _ in 0..=round % 8 {
                let at = below(bytes.len());
                bytes[at] = below(256) as u8;
            }
            if round % 3 == 0 {
                bytes.truncate(below(whole.len()) + 1);
            }
            match one_pixel_processor().process(&ImageSource::Bytes(bytes.into())) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}

#[test]
fn exif_orientation_turns_the_picture() {
    // A 2x1 picture, red then blue; orientation 6 says: turn it a quarter clockwise to see it.
    let image = image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    let ImageSource::Bytes(bytes) = png(&image.into()) else { unreachable!() };
    let exif = [b"II*\0\x08\0\0\0\x01\0".as_slice(), b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"];
    let turned = ImageSource::Bytes(with_chunk(&bytes, *b"eXIf", &exif.concat()).into());
    let pixels = one_pixel_processor().process(&turned).unwrap();
    assert_eq!(pixels.grid, [1, 2, 1]);
    assert_eq!(pixels.values, [255.0, 0.0, 0.0, 0.0, 0.0, 255.0]);
    assert_eq!(one_pixel_processor().grid(&turned).unwrap(), [1, 2, 1]);
}

/// Puts a chunk after the header of a PNG.
fn with_chunk(png: &[u8], kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind, data].concat();
    let mut crc = u32::MAX;
    for byte in &body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let length = (data.len() as u32).to_be_bytes();
    [&png[..33], &length, &body, &(!crc).to_be_bytes(), &png[33..]].concat()
}

#[test]
fn sizes_are_those_of_smart_resize() {
    // Expected: transformers' smart_resize(height, width, factor=32, 4096, 40960).
    let processor = ImageProcessor::load(fixtures().join("qwen3_vl_tiny")).unwrap();
    let cases = [
        ((2, 1), [1, 4, 6]),
        ((2, 2), [1, 4, 4]),
        ((64, 64), [1, 4, 4]),
        ((80, 80), [1, 4, 4]),
        ((112, 80), [1, 4, 8]),
        ((1000, 1000), [1, 12, 12]),
        ((4000, 20), [1, 2, 178]),
    ];
    for ((width, height), grid) in cases {
        let image = png(&image::DynamicImage::new_luma8(width, height));
        assert_eq!(processor.grid(&image).unwrap(), grid, "{width}x{height}");
        assert_eq!(processor.process(&image).unwrap().grid, grid, "{width}x{height}");
        assert_eq!(processor.tokens(grid), grid[1] * grid[2] / 4);
    }
}

#[test]
fn unusable_pictures_are_named_before_work_is_done() {
    let processor = ImageProcessor::load(fixtures().join("qwen3_vl_tiny")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A header alone: 60,000 by 60,000 pixels that are not there.
    let mut header = [60_000_u32.to_be_bytes(), 60_000_u32.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let ImageSource::Bytes(small) = png(&image::DynamicImage::new_rgb8(1, 1)) else {
        unreachable!()
    };
    let bomb = with_chunk(&[&small[..8], &[0; 25]].concat(), *b"IHDR", &header);
    let bomb = [&bomb[..8], &bomb[33..], &small[33..]].concat();
    let ImageSource::Bytes(strip) = png(&image::DynamicImage::new_luma8(2001, 10)) else {
        unreachable!()
    };
    let cases: [(&str, &[u8], &str); 5] = [
        ("bomb.png", &bomb, "60000x60000, more than 100 million pixels; make it smaller"),
        ("strip.png", &strip, "2001x10, and one side may be at most 200 times the other; cut"),
        ("dot.png", &small, "1x1, which shows nothing; give the picture"),
        ("text.png", b"no picture at all", "give a whole JPEG, PNG"),
        ("cut.png", &small[..40], "give a whole JPEG, PNG"),
    ];
    for (name, bytes, expected) in cases {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = processor.process(&ImageSource::Path(path)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let missing = processor.process(&ImageSource::Path("no/such.png".into())).unwrap_err();
    assert!(missing.to_string().contains("no/such.png"));
}

#[test]
fn bounds_are_read_in_both_key_styles_and_unbuilt_switches_refused() {
    let path = fixtures().join("qwen3_vl_tiny/preprocessor_config.json");
    let settings: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let load = |settings: &serde_json::Value| {
        fs::write(dir.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
        ImageProcessor::load(dir.path()).map_err(|error| error.to_string())
    };
    let expected = load(&settings).unwrap();
    let mut older = settings.clone();
    let map = older.as_object_mut().unwrap();
    for key in ["size", "resample", "rescale_factor", "do_resize", "do_convert_rgb"] {
        map.remove(key);
    }
    map.insert("min_pixels".into(), 4096.into());
    map.insert("max_pixels".into(), 40960.into());
    assert_eq!(load(&older).unwrap(), expected);
    // The oldest files have them within `size`; what stands outside of it counts.
    let mut oldest = settings.clone();
    oldest["size"] = serde_json::json!({"min_pixels": 4096, "max_pixels": 40960});
    assert_eq!(load(&oldest).unwrap(), expected);
    oldest["size"] = serde_json::json!({"shortest_edge": 1, "longest_edge": 2});
    oldest["min_pixels"] = 4096.into();
    oldest["max_pixels"] = 40960.into();
    assert_eq!(load(&oldest).unwrap(), expected);
    // As transformers 5 saves whole processors: this file comes first.
    let nested = serde_json::json!({"image_processor": oldest, "processor_class": "X"});
    let whole = dir.path().join("processor_config.json");
    fs::write(&whole, nested.to_string()).unwrap();
    assert_eq!(load(&serde_json::json!({})).unwrap(), expected);
    fs::write(&whole, r#"{"processor_class": "X"}"#).unwrap();
    assert_eq!(load(&oldest).unwrap(), expected);
    older["resample"] = 2.into();
    assert!(load(&older).unwrap_err().contains("bicubic"));
    let mut off = settings.clone();
    off["do_normalize"] = false.into();
    assert!(load(&off).unwrap_err().contains("do_normalize"));
    let mut missing = settings;
    missing["size"] = serde_json::json!({"shortest_edge": 4096});
    assert!(load(&missing).unwrap_err().contains("size.longest_edge"));
}
