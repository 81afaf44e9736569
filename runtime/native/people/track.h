// One person over time: see runtime/tracking/track.py.
#pragma once

#include <vector>

#include "library/mesher.h"
#include "people/appearance.h"
#include "tracking/follow_crop.h"
#include "tracking/motion.h"

namespace facemesh {

constexpr double SURE = 0.5; // confidence of a face that needs no check

// Distances between the detector's checks of a face with a low confidence: they double from check to check.
class Doubt {
  public:
    double since_s = -1; // of a low confidence that the detector does not confirm; below 0: none
    int misses = 0;      // detections in turn without the face

    void relieved(double time_s);                       // a frame with a high confidence
    bool wants_check(double confidence, double time_s); // a frame with a low one
    void confirmed(double confidence);                  // the detector sees the face
    void checked(double confidence);                    // it has looked

  private:
    double last_s_ = 0, level_ = 1;
    int gap_ = 0, waited_ = 0; // frames
};

// A look with memory for its vertices.
struct Sight {
    Look look;
    std::vector<float> vertices; // empty: landmarks alone

    // Points the look at the memory.
    void bind(size_t vertex_floats) {
        vertices.resize(vertex_floats);
        look.vertices = vertex_floats ? vertices.data() : nullptr;
    }
};

class Track {
  public:
    // see() comes next.
    Track(int number, float score, const CropRule &rule, const facemesh_tracker_params &params)
        : number(number), score(score), crop_(rule, params), params_(params) {}

    const int number;
    float score; // of the last detection
    Sight sight; // the last look
    Place place{};
    Doubt doubt;
    double lost_s = -1; // when it was lost; below 0: it is seen
    Appearance appearance;
    double appearance_s = -INFINITY; // of its last look

    // Takes the look at this frame, step_s after the one before, and leaves the old one's memory in `next`.
    void see(Sight &next, double time_s, double step_s, bool has_jumped);

    void lose(double time_s) { lost_s = time_s; }
    void find();                                              // goes on after a loss; filters start anew
    Matrix crop_matrix(double time_s, int width, int height); // in a picture of this size
    double lost_for(double time_s) const { return lost_s < 0 ? 0 : time_s - lost_s; }
    Place expected(double time_s) const { return motion_.expected(time_s); }
    void rescale(double factor);

    // Fills a face with vertices and landmarks, filtered if that is on.
    void write(const PoseEstimator &pose, double step_s, facemesh_face &face);

    double confidence() const { return sight.look.confidence < 0 ? 1 : double(sight.look.confidence); }
    bool is_known() const { return sight.look.confidence >= 0; } // the network tells a confidence

  private:
    struct Points { // memory of a filter
        std::vector<float> filtered, speeds;
    };
    void smooth(Points &points, float *numbers, size_t count, double step_s);

    FollowCrop crop_;
    facemesh_tracker_params params_;
    Motion motion_; // of the looks that the network is sure of
    double sure_roll_deg_ = 0;
    Points vertices_, landmarks_;
    bool is_new_ = true;
};

} // namespace facemesh
