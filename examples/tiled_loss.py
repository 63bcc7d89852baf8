"""The contrastive loss without its B x B matrix: the same number and gradients, a fraction of the memory.

    python examples/tiled_loss.py [BATCH]

The plain form holds all B x B similarities, some of them several times. The tiled form holds one tile at a
time and goes over the tiles again for the gradient. `benchmarks/loss.py` measures both, time included.
"""

import resource
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

import sensorium as sm


def plain(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Both directions of InfoNCE as textbooks write it."""
    logits, right = scale * a @ b.T, torch.arange(len(a))
    return cross_entropy(logits, right) + cross_entropy(logits.T, right)


def matched(batch: int, dim: int = 128) -> tuple[Tensor, Tensor]:
    """Unit rows that belong together: (B, D) each."""
    torch.manual_seed(0)
    a = normalize(torch.randn(batch, dim), dim=1)
    return a.requires_grad_(), normalize(a.detach() + 0.1 * torch.randn(batch, dim), dim=1).requires_grad_()


def peak_mb() -> float:
    """Most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


batch = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
gradients = {}
for name, loss_of in {"tiled": sm.losses.info_nce, "plain": plain}.items():  # the smaller peak first
    loss_of(*matched(64), 20.0).backward()  # load what the first call loads
    a, b = matched(batch)
    before = peak_mb()
    loss = loss_of(a, b, 20.0)
    loss.backward()
    gradients[name] = torch.cat([a.grad, b.grad])
    print(f"{name}: loss {loss.item():.6f}, peak memory grew by {peak_mb() - before:.0f} MB")

error = (gradients["tiled"] - gradients["plain"]).norm() / gradients["plain"].norm()
print(
    f"gradients differ by {error:.1e} of their length; a B x B matrix alone holds {4 * batch**2 / 1e6:.0f} MB"
)
