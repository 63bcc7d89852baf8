"""Machine code for panels of local costs. See `metrics`; compiled by `kernels.compiled`."""

import numpy as np

DIFFERENCES = "void(f[:, ::1], f[:, ::1], int64, int64, f[:, :])"


def differences(x, y_columns, power, root, out):  # type: ignore[no-untyped-def]
    """Sums over |x - y|^power of x (k, D) with the columns of y (D, w); their square root if `root`."""
    for row in range(x.shape[0]):
        line = out[row]
        for column in range(line.size):
            line[column] = 0
        for axis in range(x.shape[1]):
            here = x[row, axis]
            others = y_columns[axis]
            if power == 1:
                for column in range(line.size):
                    line[column] += abs(here - others[column])
            else:
                for column in range(line.size):
                    gap = here - others[column]
                    line[column] += gap * gap
        if root == 1:
            for column in range(line.size):
                line[column] = np.sqrt(line[column])


FROM_PRODUCTS = "void(f[:, ::1], f[:, ::1], f[::1], f[::1], f, f, int64, f[:, :])"


def from_products(x, y, x_squares, y_squares, near, factor, root, out):  # type: ignore[no-untyped-def]
    """Turn products x.y in `out` (k, w) into factor * |x - y|^2, or its root; near cells anew."""
    width = 32
    for row in range(x.shape[0]):
        line = out[row]
        square = x_squares[row]
        for first in range(0, line.size, width):
            last = min(first + width, line.size)
            part, others = line[first:last], y_squares[first:last]
            least = np.float32(0)
            for column in range(part.size):
                total = square + others[column]
                value = total - 2 * part[column]
                least = min(least, value - near * total)
                part[column] = value
            if least < 0:
                for column in range(part.size):
                    if part[column] < near * (square + others[column]):
                        value = part[column] * 0
                        for axis in range(x.shape[1]):
                            gap = x[row, axis] - y[first + column, axis]
                            value += gap * gap
                        part[column] = value
        if root == 1:
            for column in range(line.size):
                line[column] = np.sqrt(factor * line[column])
        else:
            for column in range(line.size):
                line[column] = factor * line[column]
