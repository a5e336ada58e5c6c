//! What of the machine this process uses for its models: the device, and a folder for features of
//! pictures. It is a property of the process, as the number of its threads is; libraries are given
//! it as values.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use candle_core::{Device, DeviceLocation};
use clap::Args;

/// What every command takes that runs a model.
#[derive(Args, Debug)]
pub(crate) struct HostArgs {
    /// Where models run: `cpu`, `cuda` or `cuda:N` (in builds with the feature `cuda`), or `auto`
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        default_value = "auto",
        hide_default_value = true
    )]
    device: DeviceChoice,
    /// On a GPU, multiply f32 matrices in TF32: faster, with ten bits of each number instead of 23
    #[arg(long, global = true)]
    tf32: bool,
    /// Keep what the model's vision tower says of pictures here, for later runs too
    #[arg(long, global = true, value_name = "DIR")]
    picture_features: Option<PathBuf>,
}

/// Where models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("the GPU's number `{number}` is no whole number")),
            _ => Err("it is none of auto, cpu, cuda and cuda:N".to_owned()),
        }
    }
}

/// What this process uses.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where models run.
    pub(crate) device: Device,
    /// Whether a GPU multiplies in TF32.
    tf32: bool,
    /// Where features of pictures are kept on disk, if they are.
    pub(crate) picture_features: Option<PathBuf>,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Settles what is used, once, before any model is loaded.
///
/// # Errors
///
/// When there is no such device.
pub(crate) fn choose(arguments: HostArgs) -> anyhow::Result<()> {
    let HostArgs { device, tf32, picture_features } = arguments;
    candle_core::cuda::set_gemm_reduced_precision_f32(tf32);
    let host = Host { device: open(device)?, tf32, picture_features };
    // A second choice in one process would be of our own making.
    HOST.set(host).map_err(|_| anyhow::anyhow!("the device was chosen before"))
}

fn open(choice: DeviceChoice) -> anyhow::Result<Device> {
    let device = device(choice)?;
    mmrag_ops::keep_gpu_memory(&device);
    Ok(device)
}

fn device(choice: DeviceChoice) -> anyhow::Result<Device> {
    Ok(match choice {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Auto => Device::cuda_if_available(0).unwrap_or_else(|error| {
            eprintln!("models run on the CPU: the GPU does not open ({error})");
            Device::Cpu
        }),
        DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => {
            bail!(
                "this mmrag was built for the CPU alone: build it with \
                 `cargo build --release --features cuda`, or leave --device out"
            )
        }
        DeviceChoice::Cuda(number) => Device::new_cuda(number)
            .with_context(|| format!("failed to open GPU {number}; `nvidia-smi` lists them"))?,
    })
}

/// What was chosen; the CPU and no folder if nothing was.
pub(crate) fn host() -> &'static Host {
    HOST.get_or_init(|| Host { device: Device::Cpu, tf32: false, picture_features: None })
}

impl Host {
    /// Where models run, in words: `cpu`, `cuda:0` or `cuda:0, TF32`.
    pub(crate) fn told(&self) -> String {
        match self.device.location() {
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } if self.tf32 => format!("cuda:{gpu_id}, TF32"),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["gpu", "cuda:x", "cuda:", "cpu:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
