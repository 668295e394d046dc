"""Students as files for other programs: ONNX, darktable, TorchScript, BioImage.IO."""
