// Networks that regress a UV position map: see runtime/families/position_map.py.
#include <utility>

#include "cpu/decode.h"
#include "families/family.h"
#include "families/topology.h"

namespace facemesh {
namespace {

Decoder make_decoder(const Topology &topology, const Spec &spec) {
    return Decoder(topology.face_indices.data(), topology.face_indices.size(), topology.mesh.landmark_vertices,
                   topology.resolution, spec.map_side, spec.channels_last, spec.map_scale);
}

class PositionMaps : public Family {
  public:
    PositionMaps(const Spec &spec, Topology topology)
        : Family({false, spec.crop_scale, spec.side}), topology_(std::move(topology)),
          dense_(make_decoder(topology_, spec)), sparse_(make_decoder(topology_.landmarks_alone(), spec)),
          sparse_vertices_(3 * sparse_.vertex_count()) {}

    const MeshLayout &mesh() const override { return topology_.mesh; }

    void decode(const DecodeJob *jobs, size_t count) override {
        for (const DecodeJob *job = jobs; job != jobs + count; ++job) {
            const Decoder &decoder = job->vertices ? dense_ : sparse_;
            decoder.decode(job->output, job->matrix, job->vertices ? job->vertices : sparse_vertices_.data(),
                           job->landmarks, memory_);
        }
    }

  private:
    Topology topology_;
    Decoder dense_, sparse_;
    std::vector<float> sparse_vertices_, memory_;
};

} // namespace

std::unique_ptr<Family> open_position_maps(const Spec &spec, const std::string &topology) {
    return std::make_unique<PositionMaps>(spec, load_topology(topology));
}

} // namespace facemesh
