#include "people/tracker.h"

#include <algorithm>
#include <cmath>

#include "library/handles.h"
#include "people/assignment.h"

namespace facemesh {
namespace {

// As in runtime/tracking, which says why.
constexpr double LEAST = 0.1; // confidence below which there is no face, unless the detector finds it
constexpr double PATIENCE_S = 0.5, MEMORY_S = 3, SEARCH_S = 0.3, CUT_MEMORY_S = 30;
constexpr double APPEARANCE_S = 0.5, APPEARANCE_ALONE_S = 2; // between two looks at the appearance of a face
constexpr double HIDDEN_IOU = 0.5, APART_IOU = 0.3, SAME_FACE_IOU = 0.2;
constexpr double OTHER_LOOKS = 0.4; // difference beyond which a face at the same place after a cut is another's
constexpr int MISSES = 2;
constexpr double UNSURE_REDETECT_S = 1;
constexpr double REACH = 0.8, REACH_PER_S = 0.8, SAME_LOOKS = 0.25;
constexpr double LOOKS_PRICE = 1.65, PLACE_PRICE = 0.25, MOST_REACHES = 2, NEAR_REACHES = 1.5;
constexpr double CLEAR = 0.9;       // confidence of a face in front of all others
constexpr double MARGIN = 0.05;     // of a face that may lie outside the picture
constexpr double SAME_SHAPE = 0.02; // relative difference of two frames' aspect ratios

double iou(const float *a, const float *b) {
    const double width = std::min(a[2], b[2]) - double(std::max(a[0], b[0]));
    const double height = std::min(a[3], b[3]) - double(std::max(a[1], b[1]));
    if (width <= 0 || height <= 0) return 0;
    const double shared = width * height;
    const double first = (double(a[2]) - a[0]) * (double(a[3]) - a[1]);
    return shared / (first + (double(b[2]) - b[0]) * (double(b[3]) - b[1]) - shared);
}

double confidence_of(const Look &look) { return look.confidence < 0 ? 1 : double(look.confidence); }

// In the picture, but for a margin.
bool is_whole(const Look &look, const Picture &picture) {
    const double x1 = look.box[0], y1 = look.box[1], x2 = look.box[2], y2 = look.box[3];
    const double x = MARGIN * (x2 - x1), y = MARGIN * (y2 - y1);
    return x1 >= -x && y1 >= -y && x2 <= picture.width + x && y2 <= picture.height + y;
}

bool is_inside(const Look &look, const Picture &picture) {
    const Place place = place_of(look.box);
    return place.x >= 0 && place.x < picture.width && place.y >= 0 && place.y < picture.height;
}

Appearance appearance_in(const Picture &picture, const Look &look) {
    return appearance_of(picture, look.landmarks, place_of(look.box).size);
}

template <typename Tracks> auto place_in(Tracks &tracks, const Track *track) {
    return std::find_if(tracks.begin(), tracks.end(), [&](const auto &other) { return other.get() == track; });
}

} // namespace

Tracker::Tracker(Mesher &mesher, YuNet &yunet, const facemesh_tracker_params &params)
    : mesher_(mesher), yunet_(yunet), params_(params), has_confidence_(mesher.has_confidence()),
      redetect_s_(has_confidence_ ? params.redetect_s : std::min(double(params.redetect_s), UNSURE_REDETECT_S)),
      vertex_floats_(params.vertices ? 3 * mesher.mesh().vertex_count : 0) {}

void Tracker::forget() {
    seen_.clear();
    lost_.clear();
    absent_.clear();
    clock_ = Clock();
    scene_ = SceneWatch();
    width_ = height_ = count_ = 0;
    detected_s_ = -INFINITY;
    search_due_s_ = 0;
}

int Tracker::next(const Picture &picture, double stamp_s, facemesh_face *faces, int capacity) {
    clock_.tick(stamp_s);
    resize(picture.width, picture.height);
    const size_t expected = look_where_expected(picture);
    scene_.look(picture);
    const std::vector<facemesh_detection> *found = wants_detection() ? detect(picture) : nullptr;
    if (see(picture, expected) && found == nullptr) found = detect(picture);
    if (found != nullptr) meet(picture, *found);
    const int count = std::min(int(seen_.size()), capacity);
    for (int i = 0; i < count; ++i) seen_[size_t(i)]->write(mesher_.pose(), clock_.step_s, faces[i]);
    return count;
}

const std::vector<facemesh_detection> *Tracker::detect(const Picture &picture) {
    ++detections_;
    return &yunet_(picture);
}

// A frame of another size: people stay if its shape is the same.
void Tracker::resize(int width, int height) {
    const int before_w = width_, before_h = height_;
    width_ = width;
    height_ = height;
    if (before_w == 0 || (before_w == width && before_h == height)) return;
    const double factor = double(width) / before_w;
    if (std::fabs(double(height) / before_h / factor - 1) >= SAME_SHAPE) {
        seen_.clear();
        lost_.clear();
        absent_.clear();
    }
    for (Tracks *tracks : {&seen_, &lost_, &absent_})
        for (auto &track : *tracks) track->rescale(factor);
}

Sight &Tracker::sight(size_t number) {
    while (sights_.size() <= number) sights_.push_back(std::make_unique<Sight>());
    sights_[number]->bind(vertex_floats_);
    return *sights_[number];
}

// Looks at `count` sights by their matrices, once.
void Tracker::see_once(const Picture &picture, size_t count, const float *const *known) {
    looks_.resize(count);
    for (size_t i = 0; i < count; ++i) looks_[i] = sights_[i]->look;
    mesher_.see_once(picture, looks_.data(), count, known);
}

// The tracks seen, with second looks, then the lost ones where they should be; returns the number of both. A lost one
// that the network is not sure of has confidence 0.
size_t Tracker::look_where_expected(const Picture &picture) {
    size_t count = 0;
    for (auto &track : seen_)
        sight(count++).look.matrix = track->crop_matrix(clock_.time_s, picture.width, picture.height);
    const size_t seen = count;
    if (has_confidence_)
        for (auto &track : lost_)
            sight(count++).look.matrix = track->crop_matrix(clock_.time_s, picture.width, picture.height);
    known_.assign(count, nullptr);
    for (size_t i = 0; i < seen; ++i) known_[i] = seen_[i]->sight.look.landmarks;
    see_once(picture, count, known_.data());
    mesher_.see_again(picture, looks_.data(), seen);
    for (size_t i = seen; i < count; ++i) {
        if (looks_[i].confidence >= SURE)
            mesher_.see_again(picture, &looks_[i], 1);
        else
            looks_[i].confidence = 0;
    }
    for (size_t i = 0; i < count; ++i) sights_[i]->look = looks_[i];
    return count;
}

bool Tracker::wants_detection() {
    const bool is_doubtful =
        std::any_of(seen_.begin(), seen_.end(), [](const auto &track) { return track->doubt.misses > 0; });
    if (seen_.empty() || is_doubtful) return true;
    const double nearest_s = clock_.time_s + clock_.step_s / 2; // of the frames near the due time the nearest one
    if (!lost_.empty() && nearest_s >= search_due_s_) {
        double since_s = INFINITY;
        for (const auto &track : lost_) since_s = std::min(since_s, track->lost_for(clock_.time_s));
        search_due_s_ = clock_.time_s + std::max(SEARCH_S, since_s / 2);
        return true;
    }
    const bool is_full = params_.max_faces > 0 && int(seen_.size()) >= params_.max_faces;
    return nearest_s - detected_s_ >= redetect_s_ && !(is_full && has_confidence_);
}

// Takes the looks; returns true if the detector is to look at this frame now.
bool Tracker::see(const Picture &picture, size_t expected) {
    bool wants_check = false;
    std::vector<Track *> &tracks = seen_before_, &lost = lost_before_;
    tracks.clear();
    lost.clear();
    for (auto &track : seen_) tracks.push_back(track.get());
    for (auto &track : lost_) lost.push_back(track.get());
    for (size_t i = 0; i < tracks.size(); ++i) {
        Track &track = *tracks[i];
        Sight &next = *sights_[i];
        const bool is_other = scene_.is_cut && !track.appearance.empty() &&
                              difference(track.appearance, appearance_in(picture, next.look)) > OTHER_LOOKS;
        if (is_other || !is_inside(next.look, picture)) {
            lose(track);
            wants_check = true;
            continue;
        }
        track.see(next, clock_.time_s, clock_.step_s, clock_.has_jumped);
        if (!track.is_known()) continue;
        if (track.confidence() >= SURE)
            track.doubt.relieved(clock_.time_s);
        else
            wants_check |= track.doubt.wants_check(track.confidence(), clock_.time_s);
    }
    part(picture);
    std::vector<Sight *> back;
    for (size_t i = tracks.size(); i < expected; ++i)
        if (sights_[i]->look.confidence >= SURE) back.push_back(sights_[i].get());
    if (!scene_.is_cut && !back.empty()) {
        std::vector<Track *> owners;
        reunite(picture, lost, back, owners);
        for (Track *track : lost) // by track, as Python does
            for (size_t i = 0; i < back.size(); ++i)
                if (owners[i] == track && !is_hidden(back[i]->look)) bring_back(*track, *back[i], nullptr, false);
    }
    const auto forget_after = [&](Tracks &book, double memory_s) {
        book.erase(std::remove_if(book.begin(), book.end(),
                                  [&](const auto &track) { return clock_.time_s - track->lost_s > memory_s; }),
                   book.end());
    };
    forget_after(lost_, MEMORY_S);
    forget_after(absent_, CUT_MEMORY_S);
    note_appearances(picture);
    return wants_check || seen_.empty();
}

// Meshes the detections that no track accounts for, and settles who they are.
void Tracker::meet(const Picture &picture, const std::vector<facemesh_detection> &found) {
    const std::vector<size_t> chosen = match(found);
    size_t count = 0;
    scores_.clear();
    for (size_t number : chosen) {
        sight(count++).look.matrix = detection_crop(mesher_, found[number]);
        scores_.push_back(found[number].score);
    }
    see_once(picture, count);
    mesher_.see_again(picture, looks_.data(), count);
    for (size_t i = 0; i < count; ++i) sights_[i]->look = looks_[i];
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
        if (yunet_.is_turned() && !is_sure_when_turned(sights_[i]->look)) continue;
        std::swap(sights_[kept], sights_[i]);
        scores_[kept++] = scores_[i];
    }
    admit(picture, kept);
}

// Settles which tracks the detector confirms; returns the numbers of the detections that are others, and of those that
// confirm a face of low confidence: a crop by their box may fit better.
std::vector<size_t> Tracker::match(const std::vector<facemesh_detection> &found) {
    detected_s_ = clock_.time_s;
    struct Pair {
        double iou;
        size_t row, column;
    };
    std::vector<Pair> pairs;
    std::vector<double> nearest(found.size(), 0.0);
    for (size_t row = 0; row < seen_.size(); ++row)
        for (size_t column = 0; column < found.size(); ++column) {
            pairs.push_back({iou(seen_[row]->sight.look.box, found[column].box), row, column});
            nearest[column] = std::max(nearest[column], pairs.back().iou);
        }
    std::sort(pairs.begin(), pairs.end(), [](const Pair &a, const Pair &b) {
        return a.iou != b.iou ? a.iou > b.iou : a.row != b.row ? a.row > b.row : a.column > b.column;
    });
    std::vector<char> row_taken(seen_.size(), 0), column_taken(found.size(), 0);
    std::vector<size_t> chosen;
    for (const Pair &pair : pairs) {
        if (pair.iou < SAME_FACE_IOU || row_taken[pair.row] || column_taken[pair.column]) continue;
        row_taken[pair.row] = column_taken[pair.column] = 1;
        Track &track = *seen_[pair.row];
        track.score = found[pair.column].score;
        if (track.is_known() && track.confidence() < SURE) chosen.push_back(pair.column);
        track.doubt.confirmed(track.confidence());
    }
    std::vector<Track *> missed;
    for (size_t row = 0; row < seen_.size(); ++row)
        if (!row_taken[row]) missed.push_back(seen_[row].get());
    for (Track *track : missed) miss(*track);
    for (size_t column = 0; column < found.size(); ++column)
        if (!column_taken[column] && nearest[column] < HIDDEN_IOU) chosen.push_back(column);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

// Takes the looks at the detections that match() returned: better looks, people who are back, newcomers.
void Tracker::admit(const Picture &picture, size_t count) {
    std::vector<Sight *> candidates;
    std::vector<float> scores;
    for (size_t i = 0; i < count; ++i) {
        Sight &next = *sights_[i];
        const double confidence = confidence_of(next.look);
        if (confidence < LEAST) continue;
        std::vector<Track *> same;
        for (auto &track : seen_)
            if (iou(track->sight.look.box, next.look.box) > APART_IOU) same.push_back(track.get());
        if (same.empty()) {
            candidates.push_back(&next);
            scores.push_back(scores_[i]);
        } else if (same.size() == 1 && same[0]->confidence() < std::min(SURE, confidence)) {
            same[0]->see(next, clock_.time_s, clock_.step_s, false);
        }
    }
    std::vector<Track *> owners;
    if (scene_.is_cut) {
        for (auto &track : lost_) absent_.push_back(std::move(track));
        lost_.clear();
        absent_.erase(
            std::remove_if(absent_.begin(), absent_.end(), [](const auto &track) { return track->appearance.empty(); }),
            absent_.end());
        recognise(picture, candidates, owners);
    } else {
        std::vector<Track *> lost;
        for (auto &track : lost_) lost.push_back(track.get());
        reunite(picture, lost, candidates, owners);
    }
    for (size_t i = 0; i < candidates.size(); ++i) {
        if (is_hidden(candidates[i]->look)) continue;
        if (owners[i] != nullptr) {
            bring_back(*owners[i], *candidates[i], &scores[i], scene_.is_cut);
        } else if (has_room() && is_nobody_lost(candidates[i]->look, picture)) {
            auto track =
                std::make_unique<Track>(++count_, scores[i], mesher_.crop_rule(), params_);
            const double confidence = confidence_of(candidates[i]->look);
            track->see(*candidates[i], clock_.time_s, clock_.step_s, false);
            track->doubt.confirmed(confidence);
            seen_.push_back(std::move(track));
        }
    }
    note_appearances(picture);
}

// Loses one of two tracks that show the same face: the one that should be somewhere else.
void Tracker::part(const Picture &picture) {
    std::vector<Track *> &tracks = together_;
    tracks.clear();
    for (auto &track : seen_) tracks.push_back(track.get());
    for (size_t i = 0; i < tracks.size(); ++i)
        for (size_t j = i + 1; j < tracks.size(); ++j) {
            Track &second = *tracks[i], &first = *tracks[j];
            if (first.lost_s >= 0 || second.lost_s >= 0) continue;
            if (iou(first.sight.look.box, second.sight.look.box) <= HIDDEN_IOU) continue;
            const Appearance shown = appearance_in(picture, first.sight.look);
            const auto stray = [&](const Track &track) {
                return track.place.distance(track.expected(clock_.time_s)) + difference(track.appearance, shown);
            };
            lose(stray(first) >= stray(second) ? first : second);
        }
}

// Looks at the appearance of sure faces, now and then, where nobody else's is in the way.
void Tracker::note_appearances(const Picture &picture) {
    const double pause_s = seen_.size() + lost_.size() > 1 ? APPEARANCE_S : APPEARANCE_ALONE_S;
    for (auto &track : seen_) {
        if (clock_.time_s - track->appearance_s < pause_s || track->confidence() < SURE) continue;
        const bool is_free = std::all_of(seen_.begin(), seen_.end(), [&](const auto &other) {
            return other == track || iou(track->sight.look.box, other->sight.look.box) == 0;
        });
        if (!is_free) continue;
        track->appearance = blend(track->appearance, appearance_in(picture, track->sight.look));
        track->appearance_s = clock_.time_s;
    }
}

// owners: the lost track that each sight shows, by the place where it is expected and by appearance, or NULL. The
// appearance of a face that is not clear says nothing: only its place can tell, if one lost person alone is near.
void Tracker::reunite(const Picture &picture, const std::vector<Track *> &lost, const std::vector<Sight *> &sights,
                      std::vector<Track *> &owners) {
    owners.assign(sights.size(), nullptr);
    std::vector<size_t> beside; // sights that no one hides
    for (size_t i = 0; i < sights.size(); ++i)
        if (!is_hidden(sights[i]->look)) beside.push_back(i);
    if (lost.empty() || beside.empty()) return;
    const size_t rows = lost.size(), columns = beside.size();
    std::vector<double> places(rows * columns), costs(rows * columns);
    std::vector<size_t> near(columns, 0);
    for (size_t row = 0; row < rows; ++row)
        for (size_t column = 0; column < columns; ++column) {
            const double place = reaches(*lost[row], sights[beside[column]]->look, picture);
            places[row * columns + column] = place;
            near[column] += place < NEAR_REACHES;
        }
    for (size_t column = 0; column < columns; ++column) {
        const Look &look = sights[beside[column]]->look;
        const bool clear = is_clear(look, picture);
        const Appearance shown = clear ? appearance_in(picture, look) : Appearance();
        for (size_t row = 0; row < rows; ++row) {
            const double place = places[row * columns + column];
            double &cost = costs[row * columns + column];
            if (!shown.empty() && !lost[row]->appearance.empty())
                cost = LOOKS_PRICE * difference(lost[row]->appearance, shown) +
                       PLACE_PRICE * std::min(place, MOST_REACHES);
            else
                cost = clear || near[column] == 1 ? place : 1;
        }
    }
    for (auto [row, column] : assign(costs, int(rows), int(columns), 1))
        owners[beside[size_t(column)]] = lost[size_t(row)];
}

// How far a look lies from the expected place of a lost track, in distances that the track can go.
double Tracker::reaches(const Track &track, const Look &look, const Picture &picture) const {
    const Place expected = track.expected(clock_.time_s).inside(picture.width, picture.height);
    return place_of(look.box).distance(expected) / (REACH + REACH_PER_S * track.lost_for(clock_.time_s));
}

// True for a whole face that nothing covers, as far as the network and the other faces tell.
bool Tracker::is_clear(const Look &look, const Picture &picture) const {
    if (!is_whole(look, picture)) return false;
    const double confidence = confidence_of(look);
    const bool is_apart = std::all_of(seen_.begin(), seen_.end(),
                                      [&](const auto &track) { return iou(track->sight.look.box, look.box) == 0; });
    return confidence >= CLEAR || (confidence >= SURE && is_apart);
}

// False for a face that may be a lost person's, half hidden: it will be seen better soon.
bool Tracker::is_nobody_lost(const Look &look, const Picture &picture) const {
    const bool is_near = std::any_of(lost_.begin(), lost_.end(),
                                     [&](const auto &track) { return reaches(*track, look, picture) <= NEAR_REACHES; });
    return !is_near || is_clear(look, picture);
}

// The same by appearance alone, of people from before a cut.
void Tracker::recognise(const Picture &picture, const std::vector<Sight *> &sights, std::vector<Track *> &owners) {
    owners.assign(sights.size(), nullptr);
    if (absent_.empty()) return;
    std::vector<double> costs;
    std::vector<Appearance> shown;
    for (const Sight *sight : sights) shown.push_back(appearance_in(picture, sight->look));
    for (const auto &track : absent_)
        for (const Appearance &appearance : shown)
            costs.push_back(appearance.empty() ? 1 : difference(track->appearance, appearance));
    for (auto [row, column] : assign(costs, int(absent_.size()), int(sights.size()), SAME_LOOKS))
        owners[size_t(column)] = absent_[size_t(row)].get();
}

bool Tracker::is_hidden(const Look &look) const {
    return std::any_of(seen_.begin(), seen_.end(),
                       [&](const auto &track) { return iou(track->sight.look.box, look.box) > APART_IOU; });
}

bool Tracker::has_room() const {
    return params_.max_faces == 0 || int(seen_.size() + lost_.size()) < params_.max_faces;
}

// Judges a track that the detector does not see.
void Tracker::miss(Track &track) {
    bool is_lost;
    if (!track.is_known()) {
        is_lost = ++track.doubt.misses >= MISSES;
    } else if (track.confidence() >= SURE) {
        return;
    } else {
        track.doubt.checked(track.confidence());
        if (track.doubt.since_s < 0) track.doubt.since_s = clock_.time_s;
        is_lost = track.confidence() < LEAST || clock_.time_s - track.doubt.since_s > PATIENCE_S;
    }
    if (is_lost) lose(track);
}

void Tracker::lose(Track &track) {
    const auto place = place_in(seen_, &track);
    track.lose(clock_.time_s);
    lost_.push_back(std::move(*place));
    seen_.erase(place);
    search_due_s_ = clock_.time_s + SEARCH_S;
}

void Tracker::bring_back(Track &track, Sight &next, const float *score, bool has_jumped) {
    for (Tracks *book : {&lost_, &absent_}) {
        const auto place = place_in(*book, &track);
        if (place == book->end()) continue;
        seen_.push_back(std::move(*place));
        book->erase(place);
    }
    track.find();
    if (score) track.score = *score;
    track.see(next, clock_.time_s, clock_.step_s, has_jumped);
    std::sort(seen_.begin(), seen_.end(), [](const auto &a, const auto &b) { return a->number < b->number; });
}

} // namespace facemesh
