// Book of the people in a film, and the frames in which they are followed: see runtime/tracking/tracker.py and
// follower.py.
#pragma once

#include <memory>
#include <vector>

#include "detection/yunet.h"
#include "library/mesher.h"
#include "people/clock.h"
#include "tracking/scene_watch.h"
#include "people/track.h"

namespace facemesh {

class Tracker {
  public:
    Tracker(Mesher &mesher, YuNet &yunet, const facemesh_tracker_params &params);

    // The faces of the next frame, by the age of their tracks; returns their number, at most `capacity`.
    int next(const Picture &picture, double stamp_s, facemesh_face *faces, int capacity);

    // Starts anew, with a film that has nothing to do with the one before.
    void forget();

    int vertex_count() const { return int(vertex_floats_ / 3); }
    int detections() const { return detections_; } // frames that the detector has looked at

  private:
    using Tracks = std::vector<std::unique_ptr<Track>>;

    // Steps of a frame.
    void resize(int width, int height);
    const std::vector<facemesh_detection> *detect(const Picture &picture);
    size_t look_where_expected(const Picture &picture);
    bool wants_detection();
    bool see(const Picture &picture, size_t expected);
    void meet(const Picture &picture, const std::vector<facemesh_detection> &found);
    std::vector<size_t> match(const std::vector<facemesh_detection> &found);
    void admit(const Picture &picture, size_t count);

    // The book.
    void part(const Picture &picture);
    void note_appearances(const Picture &picture);
    void reunite(const Picture &picture, const std::vector<Track *> &lost, const std::vector<Sight *> &sights,
                 std::vector<Track *> &owners);
    void recognise(const Picture &picture, const std::vector<Sight *> &sights, std::vector<Track *> &owners);
    bool is_hidden(const Look &look) const;
    bool has_room() const;
    void miss(Track &track);
    void lose(Track &track);
    void bring_back(Track &track, Sight &sight, const float *score, bool has_jumped);
    bool is_clear(const Look &look, const Picture &picture) const;
    bool is_nobody_lost(const Look &look, const Picture &picture) const;
    double reaches(const Track &track, const Look &look, const Picture &picture) const;
    void see_once(const Picture &picture, size_t count, const float *const *known = nullptr);
    Sight &sight(size_t number);

    Mesher &mesher_;
    YuNet &yunet_;
    facemesh_tracker_params params_;
    bool has_confidence_;
    double redetect_s_;
    size_t vertex_floats_;

    Tracks seen_, lost_, absent_; // seen: by number; absent: lost at a cut, only another cut brings them back
    Clock clock_;
    SceneWatch scene_;
    int width_ = 0, height_ = 0, count_ = 0, detections_ = 0;
    double detected_s_ = -INFINITY, search_due_s_ = 0;
    std::vector<std::unique_ptr<Sight>> sights_; // memory for looks
    std::vector<Look> looks_;
    std::vector<float> scores_;
    std::vector<const float *> known_; // landmarks of the last frame
    std::vector<Track *> seen_before_, lost_before_, together_;
};

} // namespace facemesh

struct facemesh_tracker {
    facemesh::Tracker tracker;
};
