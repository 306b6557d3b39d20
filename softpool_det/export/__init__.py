"""Trained detectors for elsewhere: ONNX, TorchScript, torch.export and AOTInductor."""
