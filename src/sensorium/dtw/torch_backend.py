"""Exact DTW in plain PyTorch, for accelerator tensors and machines without numba.

Input: a `Problem` and a device. Output: `Solved`, with the numbers of `exact`. Cells of an anti-diagonal are
computed together. Costs and backpointers of all cells are on the device, so memory grows as n x m. On a CPU
it is many times slower than `exact`.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from sensorium.core.jit import UNREACHED
from sensorium.dtw.costs import Costs, Differences, Products
from sensorium.dtw.exact import Problem, Solved, Table

NO_CODE = 255
_Path: TypeAlias = tuple[Int64[np.ndarray, "L 2"], Float64[np.ndarray, " L"]]


def solve_by_torch(problem: Problem, *, path: bool, device: torch.device) -> Solved:
    """Compute the least accumulated cost, and optionally its path; `problem.limit` is ignored."""
    n, m = problem.costs.shape
    costs = _allowed(dense_costs(problem.costs, device), problem)
    table = Table(problem.pattern)
    sums, codes = _sweep(costs, table, problem.open_begin, path)
    big = UNREACHED[str(costs.dtype).removeprefix("torch.")]
    end = int(sums.argmin()) if problem.open_end else m - 1
    if float(sums[end]) >= big / 2:
        return Solved(math.inf)
    distance = float(sums[end])
    return Solved(distance, *_trace(codes, table, n - 1, end)) if path else Solved(distance)


def dense_costs(costs: Costs, device: torch.device) -> Float[Tensor, "n m"]:
    """All local costs, in units, computed from differences."""
    source = costs.source
    if isinstance(source, Differences | Products):
        x, y = (_on(rows, device) for rows in (source.x, source.y))
        if isinstance(source, Products):
            x, y = x * source.ratio, y * source.ratio
        power = source.power if isinstance(source, Differences) else 2
        found = torch.cdist(x, y, p=float(power), compute_mode="donot_use_mm_for_euclid_dist")
        found = found * found if power == 2 and not source.root else found
        return found[:, costs.first : costs.first + costs.shape[1]]
    out = np.empty(costs.shape, costs.dtype)
    costs.panel(slice(0, costs.shape[0]), slice(0, costs.shape[1]), out)
    return _on(out, device)


def _on(rows: Float[np.ndarray, "n d"], device: torch.device) -> Float[Tensor, "n d"]:
    tensor = torch.tensor(rows)
    return tensor.to(device, torch.float32) if device.type == "mps" else tensor.to(device)


def _allowed(costs: Float[Tensor, "n m"], problem: Problem) -> Float[Tensor, "n m"]:
    """Costs with `UNREACHED` outside the window."""
    ranges, m = problem.ranges, costs.shape[1]
    if ranges.is_full(m):
        return costs
    is_outside = ~torch.tensor(ranges.allowed(m), device=costs.device)
    return costs.masked_fill(is_outside, UNREACHED[str(costs.dtype)[6:]])


def _sweep(
    costs: Float[Tensor, "n m"], table: Table, is_open: bool, keep: bool
) -> tuple[Float[Tensor, " m"], UInt8[Tensor, "s n"]]:
    """Sums of the last row, and the backpointers of all cells by anti-diagonal and row."""
    n, m = costs.shape
    halo = int(table.jumps.sum(axis=1).max())
    big = UNREACHED[str(costs.dtype)[6:]]
    slanted = costs.new_full((halo + n + m - 1, halo + n), big)
    rows = torch.arange(n, device=costs.device)
    places = rows[:, None] + torch.arange(m, device=costs.device)
    slanted[halo + places, (halo + rows)[:, None].expand(n, m)] = costs
    sums = costs.new_full((halo + 1, halo + n), big)  # the last diagonals, the oldest overwritten
    codes = torch.full((n + m - 1 if keep else 0, n), NO_CODE, dtype=torch.uint8, device=costs.device)
    last = costs.new_full((m,), big)
    order = np.argsort(table.jumps[:, 0] == 0, kind="stable").tolist()  # within a row last, as in `exact`
    for diagonal in range(n + m - 1):
        best = costs.new_full((n,), big)
        code = torch.full((n,), NO_CODE, dtype=torch.uint8, device=costs.device)
        if diagonal == 0 or (is_open and diagonal < m):
            best[0] = slanted[halo + diagonal, halo]
        for p in order:
            down, across = (int(jump) for jump in table.jumps[p])
            total = sums[(diagonal - down - across) % (halo + 1), halo - down : halo - down + n]
            for q in range(int(table.counts[p])):
                up, left = (int(back) for back in table.cells[p, q])
                cost = slanted[halo + diagonal - up - left, halo - up : halo - up + n]
                total = total + torch.where(cost < big, float(table.weights[p, q]) * cost, big)
            better = total < best
            best, code = torch.where(better, total, best), code.masked_fill(better, p)
        sums[diagonal % (halo + 1), halo:] = best
        if keep:
            codes[diagonal] = code
        if 0 <= diagonal - (n - 1) < m:
            last[diagonal - (n - 1)] = best[n - 1]
    return last, codes


def _trace(codes: UInt8[Tensor, "s n"], table: Table, row: int, column: int) -> _Path:
    kept = codes.cpu().numpy()
    cells: list[tuple[int, int]] = []
    paid: list[float] = []
    while (p := int(kept[row + column, row])) != NO_CODE:
        for q in reversed(range(int(table.counts[p]))):
            up, left = table.cells[p, q]
            cells.append((row - int(up), column - int(left)))
            paid.append(float(table.weights[p, q]))
        row, column = row - int(table.jumps[p, 0]), column - int(table.jumps[p, 1])
    cells.append((row, column))
    return np.array(cells[::-1], np.int64), np.array([*paid, 1.0][::-1])
