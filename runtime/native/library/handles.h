// What the handles of facemesh.h hold, and the way from exceptions to its statuses.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "library/error.h"
#include "library/mesher.h"
#include "detection/yunet.h"

struct facemesh_model {
    explicit facemesh_model(facemesh::Mesher mesher) : mesher(std::move(mesher)) {}

    facemesh::Mesher mesher;
    std::vector<facemesh::Look> looks;
    std::string warnings;
};

struct facemesh_detector {
    facemesh::YuNet yunet;
};

namespace facemesh {

// Keeps the message for facemesh_error().
void keep_error(const char *message) noexcept;

// Calls and returns what `call` returns; an exception becomes `otherwise(status)`.
template <typename Call, typename Otherwise> auto guarded(Call call, Otherwise otherwise) noexcept {
    try {
        return call();
    } catch (const Error &error) {
        keep_error(error.what());
        return otherwise(error.status);
    } catch (const std::bad_alloc &) {
        keep_error("the memory is full; use smaller pictures or fewer faces at once");
    } catch (const std::exception &error) {
        keep_error(error.what());
    }
    return otherwise(FACEMESH_FAILED);
}

template <typename Call> int status_of(Call call) noexcept {
    return guarded(call, [](facemesh_status status) { return int(status); });
}

template <typename Handle, typename Call> Handle *handle_of(Call call) noexcept {
    return guarded(call, [](facemesh_status) { return static_cast<Handle *>(nullptr); });
}

// Fills a face of the caller's from a look, without its score.
void write_face(const Look &look, facemesh_face &face);

void write_pose(const Pose &pose, facemesh_face &face);

// The crop of a detection, turned by its roll.
Matrix detection_crop(const Mesher &mesher, const facemesh_detection &detection);

// True if a face that only a turned picture showed is one; a model without confidence is believed.
bool is_sure_when_turned(const Look &look);

} // namespace facemesh
