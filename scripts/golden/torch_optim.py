"""Golden values of PyTorch's optimizers on deterministic gradients.

    pip install -r scripts/golden/requirements.txt
    python scripts/golden/torch_optim.py tests/golden         # makes torch_optim.json

Made with torch 2.11.0 (CPU), numpy 2.4.6.

24 parameters in two f32 tensors, `first` (values 0..15) and `second` (values 16..23).
With signed(i, k) from formulas.py, index i = 0..23 over both tensors, step s = 1..20:

    parameter[i]   = signed(i, 100) as f32                          at the start
    gradient[s][i] = ((0.1 + 0.05 * s as f64) * signed(24 * s + i, 101)) as f32

The gradient does not depend on the parameters. Each configuration runs twice: with a
constant learning rate (`lr_after_10` equal to `lr`), and with a tenth of it for steps 11
to 20. If `decay_second` is 0 and `weight_decay` is not, the tensors are two parameter
groups and only `first` is decayed.

Muon updates `first` as a matrix of two rows, and AdamW without weight decay `second`.
PyTorch's Muon iterates in bfloat16; here it iterates in float32.

Each configuration holds the 24 parameters after steps 1, 2, 10, 11 and 20 at nine
significant digits, which is full f32 precision.
"""
import os
import sys

import numpy as np
import torch

from formulas import digits, signed, write

KEEP = (1, 2, 10, 11, 20)
SPLIT, COUNT = 16, 24

CONFIGURATIONS = [  # name, kind, options, weight decay of `second` if it differs
    ("adam", "Adam", dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-7), None),
    ("adam_betas", "Adam", dict(lr=1e-3, betas=(0.8, 0.95), eps=1e-7), None),
    ("adamw", "AdamW", dict(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05), None),
    ("adamw_masked", "AdamW", dict(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05), 0.0),
    ("sgd", "SGD", dict(lr=0.1), None),
    ("sgd_momentum", "SGD", dict(lr=0.1, momentum=0.9), None),
    ("sgd_nesterov", "SGD", dict(lr=0.1, momentum=0.9, nesterov=True), None),
    ("sgd_nesterov_decay", "SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4), None),
    ("muon", "Muon", dict(lr=5e-3, momentum=0.9, nesterov=False, weight_decay=0.1), 0.0),
    ("muon_nesterov", "Muon", dict(lr=5e-3, momentum=0.95, nesterov=True, weight_decay=0.1), 0.0),
]
ADAMW = dict(betas=(0.9, 0.99), eps=1e-7)  # beside Muon


def gradient(step):
    return ((0.1 + 0.05 * float(step)) * signed(COUNT, 101, COUNT * step)).astype(np.float32)


def optimizers(kind, options, decay_second, first, second):
    if kind == "Muon":
        adamw = torch.optim.AdamW([second], lr=options["lr"], weight_decay=decay_second, **ADAMW)
        return [torch.optim.Muon([first], adjust_lr_fn="match_rms_adamw", **options), adamw]
    groups = [{"params": [first]}, {"params": [second]}]
    if decay_second is not None:
        groups[1]["weight_decay"] = decay_second
    return [getattr(torch.optim, kind)(groups, foreach=False, **options)]


def steps(kind, options, decay_second, lr_after_10):
    start = signed(COUNT, 100).astype(np.float32)
    halves = start[:SPLIT].reshape(2, -1) if kind == "Muon" else start[:SPLIT], start[SPLIT:]
    first, second = (torch.nn.Parameter(torch.tensor(values)) for values in halves)
    updates = optimizers(kind, options, decay_second, first, second)
    kept = {}
    for step in range(1, 21):
        if step == 11:
            for group in (group for optimizer in updates for group in optimizer.param_groups):
                group["lr"] = lr_after_10
        g = gradient(step)
        first.grad, second.grad = torch.tensor(g[:SPLIT]).view_as(first), torch.tensor(g[SPLIT:])
        for optimizer in updates:
            optimizer.step()
        if step in KEEP:
            kept[step] = torch.cat([first.flatten(), second]).detach().numpy().copy()
    return kept


def main(folder):
    # Copies, as a conversion does: Muon scales them in place.
    torch.Tensor.bfloat16 = torch.Tensor.clone
    records = []
    for name, kind, options, decay_second in CONFIGURATIONS:
        for lr_after_10 in (options["lr"], float(f"{options['lr'] / 10:.9g}")):
            kept = steps(kind, options, decay_second, lr_after_10)
            call = f"torch.optim.{kind}(" + ", ".join(f"{k}={v!r}" for k, v in options.items()) + ")"
            beside = ADAMW if kind == "Muon" else options
            betas = beside.get("betas", (None, None))
            decay = options.get("weight_decay", 0.0)
            for step, values in kept.items():
                assert np.array_equal(np.array(digits(values), dtype=np.float32), values)
            records.append({
                "name": name + ("" if lr_after_10 == options["lr"] else "_drop"), "call": call, "kind": kind,
                "lr": options["lr"], "lr_after_10": lr_after_10, "beta1": betas[0], "beta2": betas[1],
                "eps": beside.get("eps"), "momentum": options.get("momentum", 0.0),
                "nesterov": options.get("nesterov", False), "weight_decay": decay,
                "decay_second": decay if decay_second is None else decay_second,
                "after": {str(step): digits(values) for step, values in kept.items()},
            })
    write(os.path.join(folder, "torch_optim.json"), {
        "made_by": f"scripts/golden/torch_optim.py, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        "start": digits(signed(COUNT, 100).astype(np.float32)),
        "gradient_step_1": digits(gradient(1)),
        "gradient_step_20": digits(gradient(20)),
        "records": records,
    })


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
