// Frame -> network input: the last step after OpenCV's warp, and the whole crop where it is axis-aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace facemesh {

// The network's input tensor: value = low + colour * gain for colour 0..255.
struct InputFormat {
    int size; // side in px
    bool channels_last;
    bool swap_colours; // the frame is BGR: true where the network wants RGB
    float low, gain;
};

// crop: (size, size, 3) uint8; out: (3, size, size) or (size, size, 3).
void finish_crop(const uint8_t *crop, const InputFormat &format, float *out);

// Memory for crops, one after the other: their tables of weights are of about the same size.
class CropMemory {
  public:
    struct Tables;

    CropMemory();
    CropMemory(CropMemory &&) noexcept;
    ~CropMemory();

    Tables &tables() { return *tables_; }

  private:
    std::unique_ptr<Tables> tables_;
};

// Crop px = s * frame px + (tx, ty), black outside the frame; every output pixel is the mean of samples x samples
// bilinear samples. That is a separable filter: rows first, then columns. image: (height, width, 3) uint8 with
// row_stride bytes from row to row.
void crop_axis_aligned(const uint8_t *image, int height, int width, int64_t row_stride, double s, double tx, double ty,
                       int samples, const InputFormat &format, float *out, CropMemory &memory);

// The same in memory of its own.
void crop_axis_aligned(const uint8_t *image, int height, int width, int64_t row_stride, double s, double tx, double ty,
                       int samples, const InputFormat &format, float *out);

} // namespace facemesh
