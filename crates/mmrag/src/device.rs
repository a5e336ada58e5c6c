//! Which device the models of this process run on: a property of the process, as the number of its
//! threads is. Libraries are given it as a value.

use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use candle_core::Device;

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

static DEVICE: OnceLock<Device> = OnceLock::new();

/// Settles the device, once, before any model is loaded.
///
/// # Errors
///
/// When there is no such device.
pub(crate) fn choose(choice: DeviceChoice) -> anyhow::Result<()> {
    let device = match choice {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Auto => Device::cuda_if_available(0).unwrap_or(Device::Cpu),
        DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => {
            bail!(
                "this mmrag was built for the CPU alone: build it with \
                 `cargo build --release --features cuda`, or leave --device out"
            )
        }
        DeviceChoice::Cuda(number) => Device::new_cuda(number)
            .with_context(|| format!("failed to open GPU {number}; `nvidia-smi` lists them"))?,
    };
    // A second choice in one process would be of our own making.
    DEVICE.set(device).map_err(|_| anyhow::anyhow!("the device was chosen before"))
}

/// The device that was chosen; the CPU if none was.
pub(crate) fn device() -> &'static Device {
    DEVICE.get_or_init(|| Device::Cpu)
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
