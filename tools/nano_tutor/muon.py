"""Muon: momentum in fp32, then the nearest semi-orthogonal matrix by a quintic Newton-Schulz iteration in bf16.

Coefficients and scaling: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from collections import defaultdict

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(stack: Tensor, steps: int) -> Tensor:
    """Newton-Schulz on a stack [n, rows, columns] of matrices with rows <= columns."""
    a, b, c = COEFFICIENTS
    x = (stack / (stack.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)).bfloat16()
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are handled as one batch, which keeps the small products off the critical path."""

    def __init__(
        self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.02, steps: int = 4
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - the base class asks for it
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                by_shape[(min(p.shape), max(p.shape))].append(p)
            for params in by_shape.values():
                self._step_shape(params, group)

    def _step_shape(self, params: list[Tensor], group: dict[str, float]) -> None:
        updates = []
        for p in params:
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(buffer, group["momentum"])
            updates.append(update.T if p.shape[0] > p.shape[1] else update)
        whole = orthogonalize(torch.stack(updates), int(group["steps"]))
        for p, update in zip(params, whole, strict=True):
            tall = p.shape[0] > p.shape[1]
            p.mul_(1 - group["lr"] * group["weight_decay"])
            scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            p.add_(update.T if tall else update, alpha=-group["lr"] * scale)
