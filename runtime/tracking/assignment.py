"""The cheapest assignment of rows to columns."""

from __future__ import annotations

import math
from collections.abc import Sequence


def assign(costs: Sequence[Sequence[float]], most: float) -> list[tuple[int, int]]:
    """Return pairs (row, column) with the least sum of ``costs``; every pair costs less than ``most``.

    Each row and each column is in one pair at most; a row that stays alone counts as ``most``. Successive shortest
    paths (Jonker, Volgenant, Computing 1987), O(n³).
    """
    rows, columns = len(costs), len(costs[0]) if costs else 0
    # A square problem: every row has a column of its own for staying alone.
    width = columns + rows
    padded = [[min(cost, most) for cost in row] + [most] * rows for row in costs]
    row_price, column_price = [0.0] * rows, [0.0] * width
    row_of = [-1] * width
    for start in range(rows):
        # The shortest path from the row to a free column.
        distance, previous = [math.inf] * width, [-1] * width
        done = [False] * width
        row, column, walked = start, -1, 0.0
        while True:
            for other in range(width):
                if not done[other]:
                    reached = walked + padded[row][other] - row_price[row] - column_price[other]
                    if reached < distance[other]:
                        distance[other], previous[other] = reached, column
            column = min((other for other in range(width) if not done[other]), key=distance.__getitem__)
            walked = distance[column]
            done[column] = True
            if row_of[column] < 0:
                break
            row = row_of[column]
        # Prices that keep all reduced costs at 0 or more.
        row_price[start] += walked
        for other in range(width):
            if done[other] and other != column:
                row_price[row_of[other]] += walked - distance[other]
                column_price[other] -= walked - distance[other]
        # Shift the rows along the path.
        while column >= 0:
            row_of[column] = row_of[previous[column]] if previous[column] >= 0 else start
            column = previous[column]
    return sorted((row_of[column], column) for column in range(columns) if _pays(row_of[column], column, costs, most))


def _pays(row: int, column: int, costs: Sequence[Sequence[float]], most: float) -> bool:
    return row >= 0 and costs[row][column] < most
