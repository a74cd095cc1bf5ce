//! Formats of an exported model.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::util::error::input;

/// Format of an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Format {
    /// A module for PyTorch (.pt, .pth, .ts, .torchscript, .jit)
    TorchScript,
    /// A graph for ONNX Runtime and others (.onnx)
    Onnx,
}

impl Format {
    /// Extensions of its files, the usual one first.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::TorchScript => &["pt", "pth", "ts", "torchscript", "jit"],
            Self::Onnx => &["onnx"],
        }
    }

    /// The format of a model at `out`: that of its extension, which `chosen` must agree with. Without
    /// an extension it is `chosen`, by default TorchScript.
    ///
    /// # Errors
    /// An input error for the extension of another format.
    pub fn of_file(out: &Path, chosen: Option<Self>) -> Result<Self> {
        let Some(extension) = out.extension() else { return Ok(chosen.unwrap_or(Self::TorchScript)) };
        let has = |format: &Self| format.extensions().iter().any(|known| extension.eq_ignore_ascii_case(known));
        let Some(format) = [Self::TorchScript, Self::Onnx].into_iter().find(has) else {
            return Err(input(format!(
                "{}: export writes TorchScript or ONNX; expected a name ending in .pt or .onnx",
                out.display()
            )));
        };
        match chosen.filter(|chosen| *chosen != format) {
            None => Ok(format),
            Some(chosen) => {
                let usual = chosen.extensions().first().copied().unwrap_or_default();
                let (out, extension) = (out.display(), extension.to_string_lossy());
                let chosen = chosen.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
                Err(input(format!(
                    "{out}: .{extension} is not an extension of --format {chosen}; expected a name ending in .{usual}"
                )))
            }
        }
    }
}

/// As the formats' projects write it.
impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TorchScript => "TorchScript",
            Self::Onnx => "ONNX",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_the_format() {
        let format = |name: &str, chosen| Format::of_file(Path::new(name), chosen);
        for name in ["model.pt", "a.b/model", "MODEL.PTH", "x.ts", "x.torchscript", "x.jit", "face.onnx.pt"] {
            assert_eq!(format(name, None).unwrap(), Format::TorchScript, "{name}");
        }
        for name in ["model.onnx", "MODEL.ONNX", "face.pt.onnx"] {
            assert_eq!(format(name, None).unwrap(), Format::Onnx, "{name}");
            assert_eq!(format(name, Some(Format::Onnx)).unwrap(), Format::Onnx, "{name}");
        }
        assert_eq!(format("model", Some(Format::Onnx)).unwrap(), Format::Onnx);
        for name in ["face.tflite", "model.json", "model.safetensors", "model.csv", "model.", "-.x"] {
            for chosen in [None, Some(Format::Onnx)] {
                let message = format(name, chosen).unwrap_err().to_string();
                assert!(message.ends_with("expected a name ending in .pt or .onnx"), "{message}");
            }
        }
        let message = format("face.pt", Some(Format::Onnx)).unwrap_err().to_string();
        assert_eq!(message, "face.pt: .pt is not an extension of --format onnx; expected a name ending in .onnx");
        let message = format("face.onnx", Some(Format::TorchScript)).unwrap_err().to_string();
        assert!(message.ends_with("--format torchscript; expected a name ending in .pt"), "{message}");
    }
}
