//! Features of pictures on disk: the same numbers, without looking again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::ImageSource;
use mmrag_model::{Encoded, Grad, Group, Placement, Policy, Precision, Weights, save_safetensors};

fn policy(family: &str) -> Policy {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family);
    Policy::load_for_measurement(dir, &Placement::cpu(Precision::F32)).unwrap()
}

fn prompt(policy: &Policy) -> Encoded {
    let picture = |shade: u8| {
        let image = image::RgbImage::from_fn(40, 56, |x, y| image::Rgb([shade, x as u8, y as u8]));
        let mut bytes = std::io::Cursor::new(vec![]);
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        ImageSource::Bytes(Arc::from(bytes.into_inner()))
    };
    let image = policy.tokenizer().image_token();
    policy.encode_tokens(&[5, image, 7, image, 9], &[picture(10), picture(200)]).unwrap()
}

/// What the policy says of a reply about two pictures.
fn told(policy: &Policy) -> Vec<f32> {
    let group = Group { prompt: prompt(policy), replies: vec![vec![11, 12, 13]] };
    let scores = policy.with(None).logprobs(&[group], 1.0, Grad::None).unwrap();
    scores.logprobs_t.to_vec1().unwrap()
}

/// The files of the one tower that was asked.
fn files(place: &Path) -> Vec<PathBuf> {
    let towers: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(towers.len(), 1, "{towers:?}");
    let mut files: Vec<_> =
        fs::read_dir(&towers[0]).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_later_run_says_the_same_without_looking() {
    for family in ["qwen3_vl_tiny", "qwen2_5_vl_tiny"] {
        let place = tempfile::tempdir().unwrap();
        let expected = told(&policy(family));
        assert_eq!(told(&policy(family).with_features_in(place.path()).unwrap()), expected);
        let files = files(place.path());
        assert_eq!(files.len(), 2, "one a picture");
        let later = policy(family).with_features_in(place.path()).unwrap();
        assert_eq!(told(&later), expected);
        // What is kept is what is used: other numbers there, another answer.
        let weights = Weights::open_file(&files[0]).unwrap();
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        let zeros = names.iter().map(|name| {
            let kept = weights.f32(name, weights.shape(name).unwrap()).unwrap();
            (name.clone(), kept.zeros_like().unwrap())
        });
        save_safetensors(&files[0], &zeros.collect::<Vec<_>>()).unwrap();
        let fooled = policy(family).with_features_in(place.path()).unwrap();
        assert_ne!(told(&fooled), expected);
    }
}

#[test]
fn a_damaged_file_is_written_anew() {
    let place = tempfile::tempdir().unwrap();
    let expected = told(&policy("qwen3_vl_tiny").with_features_in(place.path()).unwrap());
    let file = files(place.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let later = policy("qwen3_vl_tiny").with_features_in(place.path()).unwrap();
    // The picture is looked at without the other this time, and looks the same to the last bit.
    assert_eq!(told(&later), expected);
    assert_eq!(fs::read(&file).unwrap().len(), whole.len());
    assert!(Weights::open_file(&file).is_ok());
}

#[test]
fn another_tower_has_files_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    for family in ["qwen3_vl_tiny", "qwen3_vl_odd"] {
        told(&policy(family).with_features_in(place.path()).unwrap());
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}
