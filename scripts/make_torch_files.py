"""Writes tests/torch/: small files in the forms torch.save and torch.jit give, one model in all.

    pip install torch numpy && python scripts/make_torch_files.py tests/torch
"""
import collections
import pathlib
import sys

import numpy as np
import torch

out = pathlib.Path(sys.argv[1])
torch.manual_seed(0)


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(x)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Inner(), Inner()])
        self.scale = torch.nn.Parameter(torch.tensor(2.5))
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)[:, :3]
        return x * self.scale


model = Model().eval()
state = model.state_dict()
np.savez(out / "expected.npz", **{k: v.numpy() for k, v in state.items() if v.dtype == torch.float32})
torch.save(state, out / "zip.pt")
torch.save(state, out / "legacy.pt", _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(model), out / "script.pt")
torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3)), out / "trace.pt")
torch.save({"epoch": 3, "state_dict": collections.OrderedDict((f"module.{k}", v) for k, v in state.items()),
            "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "lr": 1e-3}},
           out / "training.pt")
torch.save({k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}, out / "parameters.pt")
shared = torch.cat([v.flatten() for v in state.values() if v.dtype == torch.float32])
views, at = {}, 0
for k, v in state.items():
    if v.dtype == torch.float32:
        view = shared[at:at + v.numel()].view(v.shape)
        views[k] = view if v.ndim != 2 else v.T.contiguous().T  # one storage with offsets; strides
        at += v.numel()
torch.save(views, out / "views.pt")
torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, out / "half.pt")
