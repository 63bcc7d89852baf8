"""Numba kernels of the DTW recurrence with backpointers, and of the traceback; used by `exact`.

Rows form groups that share bytes: four rows of 2-bit codes or two rows of 4-bit codes. A code is the index of
the production that led to a cell. Group g covers columns first[g]..last[g]-1 and uses the bytes from
codes[start[g]] on, one byte per column.
"""

import numpy as np

FENCE = "void(f[:, ::1], int64, int64[::1], int64[::1], f)"


def fence(cost, left, low, high, big):  # type: ignore[no-untyped-def]
    """Set cells outside their row's range to `big`; the panel's first column is `left`."""
    for row in range(cost.shape[0]):
        cost[row, : low[row] - left] = big
        cost[row, high[row] - left :] = big


WAVEFRONT = "void(f[:, ::1], int64, int64[::1], int64[::1], f[::1], f, f, uint8[::1], int64[::1])"


def wavefront(cost, left, first, last, reached, extra, big, codes, start):  # type: ignore[no-untyped-def]
    """D = cost + min(diagonal + extra * cost, up, left), four rows at a time in registers, with 2-bit codes.

    `reached` (m + 1) is the row above the panel from column -1; it is replaced by the panel's last row. Cells
    outside that row's columns are `big`. `cost` has four rows per group.
    """
    valid, end = np.int64(0), np.int64(reached.size)
    for group in range(first.size):
        low, high = first[group], last[group]
        above = reached[low]
        reached[valid : min(end, low + 1)] = big
        reached[max(valid, high + 1) : end] = big
        valid, end = low + 1, high + 1
        line, code = reached[valid:end], codes[start[group] : start[group] + high - low]
        rows = cost[4 * group : 4 * group + 4, low - left : high - left]
        cost0, cost1, cost2, cost3 = rows[0], rows[1], rows[2], rows[3]
        d0, d1, d2, d3 = big, big, big, big
        for j in range(line.size):
            up, c = line[j], cost0[j]
            slant = above + extra * c
            best, flag = min(slant, up), 0 if slant <= up else 1
            flag = 2 if d0 < best else flag
            slant, d0, above = d0, c + min(best, d0), up
            bits, c = flag, cost1[j]
            slant += extra * c
            best, flag = min(slant, d0), 0 if slant <= d0 else 4
            flag = 8 if d1 < best else flag
            slant, d1 = d1, c + min(best, d1)
            bits, c = bits | flag, cost2[j]
            slant += extra * c
            best, flag = min(slant, d1), 0 if slant <= d1 else 16
            flag = 32 if d2 < best else flag
            slant, d2 = d2, c + min(best, d2)
            bits, c = bits | flag, cost3[j]
            slant += extra * c
            best, flag = min(slant, d2), 0 if slant <= d2 else 64
            flag = 128 if d3 < best else flag
            d3 = c + min(best, d3)
            line[j], code[j] = d3, bits | flag


WAVEFRONT_VALUE = "void(f[:, ::1], int64, int64[::1], int64[::1], f[::1], f, f)"


def wavefront_value(cost, left, first, last, reached, extra, big):  # type: ignore[no-untyped-def]
    """`wavefront` without codes."""
    valid, end = np.int64(0), np.int64(reached.size)
    for group in range(first.size):
        low, high = first[group], last[group]
        above = reached[low]
        reached[valid : min(end, low + 1)] = big
        reached[max(valid, high + 1) : end] = big
        valid, end = low + 1, high + 1
        line = reached[valid:end]
        rows = cost[4 * group : 4 * group + 4, low - left : high - left]
        cost0, cost1, cost2, cost3 = rows[0], rows[1], rows[2], rows[3]
        d0, d1, d2, d3 = big, big, big, big
        for j in range(line.size):
            up, c = line[j], cost0[j]
            slant, d0, above = d0, c + min(min(above + extra * c, up), d0), up
            c = cost1[j]
            slant, d1 = d1, c + min(min(slant + extra * c, d0), d1)
            c = cost2[j]
            slant, d2 = d2, c + min(min(slant + extra * c, d1), d2)
            c = cost3[j]
            d3 = c + min(min(slant + extra * c, d2), d3)
            line[j] = d3


REMAINDER = "void(f[:, ::1], int64, int64, int64, f[::1], f, f, uint8[::1], int64)"


def remainder(cost, left, low, high, reached, extra, big, codes, start):  # type: ignore[no-untyped-def]
    """`wavefront` for the last one to three rows: one group, columns low..high-1."""
    codes[start : start + high - low] = 0
    for row in range(cost.shape[0]):
        above = reached[low]
        reached[: low + 1] = big
        reached[high + 1 :] = big
        d = big
        for column in range(low, high):
            up, c = reached[column + 1], cost[row, column - left]
            slant = above + extra * c
            best, flag = min(slant, up), 0 if slant <= up else 1
            flag = 2 if d < best else flag
            d, above = c + min(best, d), up
            reached[column + 1] = d
            codes[start + column - low] |= np.uint8(flag << (2 * row))


ROWS = (
    "void(f[:, ::1], f[:, ::1], int64, int64, int64[::1], int64[::1], boolean, f, int64[:, ::1], "
    "int64[:, :, ::1], f[:, ::1], uint8[:, ::1])"
)


def rows(cost, reached, halo, top, low, high, is_open, big, jumps, cells, weights, flags):  # type: ignore[no-untyped-def]
    """Recurrence for any production table, row by row.

    `flags` (k, m) receives the production of each cell, 15 for none.

    `cost` and `reached` (halo + k, halo + m) include `halo` rows and columns before the panel. The panel's
    first row is row `top` of the matrix. Production p comes from jumps[p] rows and columns back and adds
    weights[p, q] times the cost of the cell cells[p, q] back. Productions within the row are tried last,
    column by column, because they depend on each other.
    """
    for row in range(flags.shape[0]):
        here, flag = row + halo, flags[row]
        line, begin, stop = reached[here], low[row] + halo, high[row] + halo
        line[:], flag[:] = big, 15
        if top + row == 0:
            last = line.size if is_open else halo + 1
            line[halo:last] = cost[here, halo:last]
        for p in range(jumps.shape[0]):
            if jumps[p, 0] > 0:
                source = reached[here - jumps[p, 0]]
                for column in range(begin, stop):
                    total = source[column - jumps[p, 1]]
                    for q in range(cells.shape[1]):
                        value = cost[here - cells[p, q, 0], column - cells[p, q, 1]]
                        total += weights[p, q] * value if value < big else big
                    if total < line[column]:
                        line[column], flag[column - halo] = total, p
        for column in range(begin, stop):
            for p in range(jumps.shape[0]):
                if jumps[p, 0] == 0:
                    total = line[column - jumps[p, 1]]
                    for q in range(cells.shape[1]):
                        value = cost[here, column - cells[p, q, 1]]
                        total += weights[p, q] * value if value < big else big
                    if total < line[column]:
                        line[column], flag[column - halo] = total, p
            line[column] = min(line[column], big)


PACK = "void(uint8[:, ::1], int64, int64[::1], int64[::1], uint8[::1], int64[::1])"


def pack(flags, bits, first, last, codes, start):  # type: ignore[no-untyped-def]
    """Pack the production indices of whole row groups into `bits` per cell."""
    share, nothing = 8 // bits, (1 << bits) - 1
    for group in range(first.size):
        low, high = first[group], last[group]
        line = codes[start[group] : start[group] + high - low]
        line[:] = 0
        for row in range(group * share, min((group + 1) * share, flags.shape[0])):
            shift = bits * (row % share)
            for column in range(low, high):
                line[column - low] |= np.uint8((flags[row, column] & nothing) << shift)


TRACE = (
    "int64(uint8[::1], int64[::1], int64[::1], int64, int64, int64[::1], int64[:, ::1], int64[:, :, ::1], "
    "float64[:, ::1], int64[::1], int64[:, ::1], float64[::1], int64)"
)


def trace(codes, first, start, bits, top, cell, jumps, cells, weights, counts, path, paid, free):  # type: ignore[no-untyped-def]
    """Follow codes back from `cell` to row `top`; fill `path` and `paid` from position `free` downwards.

    `cell` becomes the start in the block above; its row is -1 where the path begins. Returns the number of
    free positions.
    """
    share, nothing = 8 // bits, (1 << bits) - 1
    row, column = cell[0], cell[1]
    while row >= top:
        group = (row - top) // share
        p = codes[start[group] + column - first[group]] >> (bits * ((row - top) % share)) & nothing
        if p >= counts.size or row < jumps[p, 0]:
            free -= 1
            path[free, 0], path[free, 1], paid[free] = row, column, 1
            row = -1
            break
        for q in range(counts[p] - 1, -1, -1):
            free -= 1
            path[free, 0], path[free, 1] = row - cells[p, q, 0], column - cells[p, q, 1]
            paid[free] = weights[p, q]
        row, column = row - jumps[p, 0], column - jumps[p, 1]
    cell[0], cell[1] = row, column
    return free
