#include "kernel_module.h"

#include "gpu/face_rows_body.h"

#include <utility>

namespace facemesh::cuda {
namespace {

template <typename Task>
void launch(Handle kernel, const Task &task, int threads, int rows, uintptr_t stream, const char *name) {
    void *arguments[] = {const_cast<Task *>(&task)};
    const unsigned columns = unsigned(threads + THREADS_OF_A_BLOCK - 1) / THREADS_OF_A_BLOCK;
    const Handle queue = reinterpret_cast<Handle>(stream);
    check(driver().cuLaunchKernel(kernel, columns, unsigned(rows), 1, THREADS_OF_A_BLOCK, 1, 1, 0, queue, arguments,
                                  nullptr),
          name);
}

} // namespace

KernelModule::KernelModule(const std::vector<std::string> &images) {
    if (images.empty()) throw Failure("cuModuleLoadData", "", "there are no kernels to load");
    Status status = SUCCESS;
    for (const std::string &image : images) {
        status = driver().cuModuleLoadData(&module_, image.c_str());
        if (status == SUCCESS) break;
    }
    check(status, "cuModuleLoadData");
    try {
        crop_ = find("facemesh_crop");
        decode_ = find("facemesh_decode");
        decode_coefficients_ = find("facemesh_decode_coefficients");
        face_rows_ = find("facemesh_face_rows");
    } catch (...) {
        driver().cuModuleUnload(module_);
        throw;
    }
}

Handle KernelModule::find(const char *kernel) const {
    Handle function = nullptr;
    FACEMESH_CALL(cuModuleGetFunction, &function, module_, kernel);
    return function;
}

void KernelModule::crop(const CropTask &task, uintptr_t stream) const {
    launch(crop_, task, task.width * task.height, task.faces, stream, "crop");
}

void KernelModule::decode(const DecodeTask &task, uintptr_t stream) const {
    launch(decode_, task, task.count, task.faces, stream, "decode");
}

void KernelModule::decode_coefficients(const CoefficientTask &task, uintptr_t stream) const {
    const int rows = (task.faces + FACES_AT_A_TIME - 1) / FACES_AT_A_TIME;
    launch(decode_coefficients_, task, task.count, rows, stream, "decode_coefficients");
}

void KernelModule::face_rows(const FaceRowTask &task, uintptr_t stream) const {
    launch(face_rows_, task, place_count(task), 1, stream, "face_rows");
}

void KernelModule::close() {
    if (module_ != nullptr) FACEMESH_CALL(cuModuleUnload, std::exchange(module_, nullptr));
}

} // namespace facemesh::cuda
