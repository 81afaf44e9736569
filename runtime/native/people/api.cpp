// The functions of facemesh.h that track.
#include <cmath>

#include "library/checks.h"
#include "library/handles.h"
#include "people/tracker.h"

using namespace facemesh;

facemesh_tracker_params facemesh_tracker_default_params(void) { return {0, 3, 1, 1, 0.5f, 20, 2}; }

facemesh_tracker *facemesh_tracker_new(facemesh_model *model, facemesh_detector *detector,
                                       facemesh_tracker_params params) {
    return handle_of<facemesh_tracker>([&] {
        need(model, "model");
        need(detector, "detector");
        model->mesher.network(); // throws if there is none
        model->mesher.check_guided();
        if (params.max_faces < 0)
            throw bad_argument("max_faces is " + std::to_string(params.max_faces) + "; give 1 or more, or 0 for all");
        if (!(params.redetect_s > 0 && std::isfinite(params.redetect_s)))
            throw bad_argument("redetect_s is " + std::to_string(params.redetect_s) + "; give seconds such as 3");
        const bool is_sound = params.cutoff_hz > 0 && params.speed_cutoff_hz > 0 && params.beta >= 0 &&
                              std::isfinite(params.cutoff_hz + params.speed_cutoff_hz + params.beta);
        if (!is_sound)
            throw bad_argument("cutoff_hz and speed_cutoff_hz must be above 0 and beta 0 or more; give values such as "
                               "0.5, 2 and 20");
        return new facemesh_tracker{Tracker(model->mesher, detector->yunet, params)};
    });
}

void facemesh_tracker_free(facemesh_tracker *tracker) { delete tracker; }

int facemesh_track(facemesh_tracker *tracker, facemesh_image image, double time_s, facemesh_face *faces, int capacity) {
    return status_of([&] {
        need(tracker, "tracker");
        check_count(capacity, "capacity");
        if (capacity > 0) need(faces, "faces");
        const Picture picture = checked(image);
        for (int i = 0; i < capacity; ++i)
            if (faces[i].vertices && tracker->tracker.vertex_count() == 0)
                throw bad_argument("faces have room for vertices, the tracker has none; set vertices to 1 in its "
                                   "params, or to NULL in the faces");
        return tracker->tracker.next(picture, time_s, faces, capacity);
    });
}

int facemesh_tracker_detections(const facemesh_tracker *tracker) { return tracker ? tracker->tracker.detections() : 0; }

int facemesh_tracker_forget(facemesh_tracker *tracker) {
    return status_of([&] {
        need(tracker, "tracker");
        tracker->tracker.forget();
        return int(FACEMESH_OK);
    });
}
