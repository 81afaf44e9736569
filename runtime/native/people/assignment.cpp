#include "people/assignment.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace facemesh {

// Successive shortest paths (Jonker, Volgenant, Computing 1987).
std::vector<std::pair<int, int>> assign(const std::vector<double> &costs, int rows, int columns, double most) {
    const int width = columns + rows; // every row has a column of its own for staying alone
    const auto cost = [&](int row, int column) {
        return column < columns ? std::min(costs[size_t(row) * size_t(columns) + size_t(column)], most) : most;
    };
    std::vector<double> row_price(size_t(rows), 0.0), column_price(size_t(width), 0.0), distance(size_t(width), 0.0);
    std::vector<int> row_of(size_t(width), -1), previous(size_t(width), -1);
    std::vector<char> done(size_t(width), 0);
    for (int start = 0; start < rows; ++start) {
        std::fill(distance.begin(), distance.end(), std::numeric_limits<double>::infinity());
        std::fill(previous.begin(), previous.end(), -1);
        std::fill(done.begin(), done.end(), char(0));
        int row = start, column = -1;
        double walked = 0;
        while (true) { // the shortest path from the row to a free column
            for (int other = 0; other < width; ++other) {
                if (done[size_t(other)]) continue;
                const double reached = walked + cost(row, other) - row_price[size_t(row)] - column_price[size_t(other)];
                if (reached < distance[size_t(other)]) {
                    distance[size_t(other)] = reached;
                    previous[size_t(other)] = column;
                }
            }
            column = -1;
            for (int other = 0; other < width; ++other)
                if (!done[size_t(other)] && (column < 0 || distance[size_t(other)] < distance[size_t(column)]))
                    column = other;
            walked = distance[size_t(column)];
            done[size_t(column)] = 1;
            if (row_of[size_t(column)] < 0) break;
            row = row_of[size_t(column)];
        }
        row_price[size_t(start)] += walked; // prices that keep all reduced costs at 0 or more
        for (int other = 0; other < width; ++other)
            if (done[size_t(other)] && other != column) {
                row_price[size_t(row_of[size_t(other)])] += walked - distance[size_t(other)];
                column_price[size_t(other)] -= walked - distance[size_t(other)];
            }
        while (column >= 0) { // shift the rows along the path
            const int before = previous[size_t(column)];
            row_of[size_t(column)] = before >= 0 ? row_of[size_t(before)] : start;
            column = before;
        }
    }
    std::vector<std::pair<int, int>> pairs;
    for (int column = 0; column < columns; ++column) {
        const int row = row_of[size_t(column)];
        if (row >= 0 && costs[size_t(row) * size_t(columns) + size_t(column)] < most) pairs.push_back({row, column});
    }
    std::sort(pairs.begin(), pairs.end());
    return pairs;
}

} // namespace facemesh
