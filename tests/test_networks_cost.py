"""What a step is reckoned to take, against what the system says that a real one took."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import uncounted
from volseg.inference import fit
from volseg.inference.fit import HALF_SHARE
from volseg.networks.cost import BFLOAT16_SHARE, FLOAT32_SHARE, cost_of, window_cost
from volseg.training.autocast import cpu_has_bfloat16

STEP = """
import re, sys, torch
from monai.losses import DiceCELoss
torch.set_num_threads(1)
from tests.test_networks_cost import network
half, built = sys.argv[1] == "True", network()
loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
optimizer = torch.optim.AdamW(built.parameters())
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
def step(side):
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = built(torch.zeros(2, 1, side, side, side))
    loss(logits.float(), torch.zeros(2, 1, side, side, side)).backward()
    optimizer.step()
    optimizer.zero_grad()
def window(side):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        built.eval()(torch.zeros(1, 1, side, side, side))
    built.train()
# Not ru_maxrss, which begins with what the process took that started this one.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
for run, side in ((window, 48), (step, 40)):
    run(8)
    began = resident()
    run(side)
    print(peak() - began)
"""


def network():
    from monai.networks.nets import DynUNet

    strides = [[2, 2, 2]] * 2
    return DynUNet(3, 1, 3, [[3, 3, 3]] * 3, [[1, 1, 1], *strides], strides, filters=[24, 48, 96], res_block=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process's memory while it runs")
def test_a_window_and_a_step_take_about_what_is_reckoned() -> None:
    half = cpu_has_bfloat16()
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(half)],
        env=uncounted() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    window, step = map(int, done.stdout.split())
    reckoned = window_cost(network().eval(), 1, (48, 48, 48)).peak_bytes * (HALF_SHARE if half else fit.FLOAT32_SHARE)
    assert 0.6 <= reckoned / window <= 1.5
    output = 2 * 3 * 40**3 * 4
    cost = cost_of(network(), 2, 1, (40, 40, 40))
    # The weights themselves lie there before the step.
    reckoned = cost.step_bytes(output, BFLOAT16_SHARE if half else FLOAT32_SHARE) - cost.weight_bytes
    assert 0.75 <= reckoned / step <= 1.8
