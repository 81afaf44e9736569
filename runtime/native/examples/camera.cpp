// Faces of a camera, by Video4Linux alone: camera MODEL DETECTOR [/dev/video0] [FRAMES]
#include <facemesh.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr int WIDTH = 640, HEIGHT = 480, BUFFERS = 4, MOST_FACES = 4;

void request(int camera, unsigned long what, void *argument, const char *name) {
    int result;
    do result = ioctl(camera, what, argument);
    while (result < 0 && errno == EINTR);
    if (result < 0) throw std::runtime_error(std::string(name) + ": " + std::strerror(errno));
}

// Pictures of a camera in YUYV, mapped from the driver.
class Camera {
  public:
    explicit Camera(const char *path) : file_(open(path, O_RDWR)) {
        if (file_ < 0) throw std::runtime_error(std::string(path) + ": " + std::strerror(errno));
        v4l2_format format{};
        format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        format.fmt.pix = {};
        format.fmt.pix.width = WIDTH;
        format.fmt.pix.height = HEIGHT;
        format.fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        request(file_, VIDIOC_S_FMT, &format, "the camera's format");
        if (format.fmt.pix.pixelformat != V4L2_PIX_FMT_YUYV) throw std::runtime_error("the camera has no YUYV");
        width = int(format.fmt.pix.width);
        height = int(format.fmt.pix.height);
        row_bytes = int(format.fmt.pix.bytesperline);
        v4l2_requestbuffers wanted{};
        wanted.count = BUFFERS;
        wanted.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        wanted.memory = V4L2_MEMORY_MMAP;
        request(file_, VIDIOC_REQBUFS, &wanted, "the camera's buffers");
        for (unsigned number = 0; number < wanted.count; ++number) {
            v4l2_buffer buffer = buffer_of(number);
            request(file_, VIDIOC_QUERYBUF, &buffer, "a buffer");
            void *memory = mmap(nullptr, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, file_, buffer.m.offset);
            if (memory == MAP_FAILED) throw std::runtime_error("a buffer cannot be mapped");
            pictures_.push_back(static_cast<const unsigned char *>(memory));
            request(file_, VIDIOC_QBUF, &buffer, "a buffer");
        }
        int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        request(file_, VIDIOC_STREAMON, &type, "the stream");
    }
    ~Camera() { close(file_); }

    // Hands the next picture and its time to `use`, and the buffer back to the driver.
    template <typename Use> void next(Use use) {
        v4l2_buffer buffer = buffer_of(0);
        request(file_, VIDIOC_DQBUF, &buffer, "the next picture");
        use(pictures_[buffer.index], double(buffer.timestamp.tv_sec) + 1e-6 * double(buffer.timestamp.tv_usec));
        request(file_, VIDIOC_QBUF, &buffer, "a buffer");
    }

    int width, height, row_bytes;

  private:
    static v4l2_buffer buffer_of(unsigned number) {
        v4l2_buffer buffer{};
        buffer.index = number;
        buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        buffer.memory = V4L2_MEMORY_MMAP;
        return buffer;
    }

    int file_;
    std::vector<const unsigned char *> pictures_;
};

unsigned char byte_of(int value) { return static_cast<unsigned char>(std::clamp(value, 0, 255)); }

// YUYV (BT.601, 16..235) -> BGR.
void convert(const unsigned char *yuyv, int row_bytes, int width, int height, unsigned char *bgr) {
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x, bgr += 3) {
            const unsigned char *pair = yuyv + y * row_bytes + 4 * (x / 2);
            const int light = 298 * (pair[2 * (x % 2)] - 16) + 128, u = pair[1] - 128, v = pair[3] - 128;
            bgr[0] = byte_of((light + 516 * u) >> 8);
            bgr[1] = byte_of((light - 100 * u - 208 * v) >> 8);
            bgr[2] = byte_of((light + 409 * v) >> 8);
        }
}

template <typename Handle> Handle *opened(Handle *handle) {
    if (handle == nullptr) throw std::runtime_error(facemesh_error());
    return handle;
}

void follow(const char *model_path, const char *detector_path, const char *device, long frames) {
    facemesh_model *model = opened(facemesh_model_open(model_path, facemesh_model_default_params()));
    std::fputs(facemesh_warnings(model), stderr);
    facemesh_detector *detector = opened(facemesh_detector_open(detector_path, facemesh_detector_default_params()));
    facemesh_tracker_params params = facemesh_tracker_default_params();
    params.vertices = 0;
    facemesh_tracker *tracker = opened(facemesh_tracker_new(model, detector, params));
    Camera camera(device);
    std::vector<unsigned char> pixels(3 * size_t(camera.width) * size_t(camera.height));
    const facemesh_image image{pixels.data(), camera.width, camera.height, 3 * ptrdiff_t(camera.width), FACEMESH_BGR};
    facemesh_face faces[MOST_FACES] = {};
    for (long frame = 0; frame < frames; ++frame)
        camera.next([&](const unsigned char *yuyv, double time_s) {
            convert(yuyv, camera.row_bytes, camera.width, camera.height, pixels.data());
            const int count = facemesh_track(tracker, image, time_s, faces, MOST_FACES);
            if (count < 0) throw std::runtime_error(facemesh_error());
            for (int i = 0; i < count; ++i)
                std::printf("%.3f s: person %d, nose at %.0f, %.0f, yaw %.0f, pitch %.0f, roll %.0f degrees\n", time_s,
                            faces[i].track, faces[i].landmarks[30][0], faces[i].landmarks[30][1], faces[i].yaw,
                            faces[i].pitch, faces[i].roll);
        });
    facemesh_tracker_free(tracker);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::fprintf(stderr, "camera: give MODEL.onnx YUNET.onnx [/dev/video0] [FRAMES]\n");
        return EXIT_FAILURE;
    }
    try {
        follow(argv[1], argv[2], argc > 3 ? argv[3] : "/dev/video0", argc > 4 ? std::atol(argv[4]) : 1L << 40);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "camera: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
