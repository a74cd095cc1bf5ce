"""The parts of scripts/gpu.sh: `main` runs the stages, `session` runs programs until a deadline,
`stages` measures, `peers` measures PyTorch beside Grimace, `gpu_monitor` polls nvidia-smi, `report`
writes the page. `torch_peer` is a program of its own. Standard library only, but for `torch_peer`."""
