// A stand-in for TensorRT's and TensorRT-RTX's header NvInferRuntime.h: the classes and methods that
// runtime/native/backends/tensorrt_network.cpp uses, and no more. NvInferVersion.h, which the tests write, chooses the
// version: of NV_TENSORRT_MAJOR 8 and 10 and, with TRT_MAJOR_RTX, of TensorRT-RTX there is what the real one has.
#pragma once

#include <cstddef>
#include <cstdint>

#include "NvInferVersion.h"
#include "cuda_runtime_api.h"

#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH)

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class OptProfileSelector : int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };

struct Dims {
    int32_t nbDims;
#if NV_TENSORRT_MAJOR == 8
    int32_t d[8];
#else
    int64_t d[8];
#endif
};

class ILogger {
  public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual ~ILogger() = default;
    virtual void log(Severity severity, const char *text) noexcept = 0;
};

class IHostMemory {
  public:
    virtual ~IHostMemory() = default;
    virtual void *data() const noexcept = 0;
    virtual size_t size() const noexcept = 0;
};

class IExecutionContext {
  public:
    virtual ~IExecutionContext() = default;
    virtual bool setInputShape(const char *name, const Dims &dims) noexcept = 0;
    virtual bool setTensorAddress(const char *name, void *address) noexcept = 0;
    virtual int32_t inferShapes(int32_t most, const char **names) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
    virtual int32_t getOptimizationProfile() const noexcept = 0;
    virtual bool setOptimizationProfileAsync(int32_t profile, cudaStream_t stream) noexcept = 0;
#if NV_TENSORRT_MAJOR == 8
    virtual void setDeviceMemory(void *memory) noexcept = 0;
#else
    virtual void setDeviceMemoryV2(void *memory, int64_t nbytes) noexcept = 0;
#endif
#ifdef TRT_MAJOR_RTX
    virtual bool isStreamCapturable(cudaStream_t stream) const noexcept = 0;
#endif
};

#ifdef TRT_MAJOR_RTX
enum class CudaGraphStrategy : int32_t { kDISABLED = 0, kWHOLE_GRAPH_CAPTURE = 1 };
enum class DynamicShapesKernelSpecializationStrategy : int32_t { kLAZY = 0, kEAGER = 1, kNONE = 2 };
#endif
enum class ExecutionContextAllocationStrategy : int32_t { kSTATIC = 0, kON_PROFILE_CHANGE = 1, kUSER_MANAGED = 2 };

#ifdef TRT_MAJOR_RTX
class IRuntimeCache {
  public:
    virtual ~IRuntimeCache() = default;
    virtual bool deserialize(const void *data, size_t nbytes) noexcept = 0;
    virtual IHostMemory *serialize() const noexcept = 0;
};

class IRuntimeConfig {
  public:
    virtual ~IRuntimeConfig() = default;
    virtual void setExecutionContextAllocationStrategy(ExecutionContextAllocationStrategy strategy) noexcept = 0;
    virtual void
    setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy strategy) noexcept = 0;
    virtual bool setCudaGraphStrategy(CudaGraphStrategy strategy) noexcept = 0;
    virtual IRuntimeCache *createRuntimeCache() const noexcept = 0;
    virtual bool setRuntimeCache(const IRuntimeCache &cache) noexcept = 0;
};
#endif

class ICudaEngine {
  public:
    virtual ~ICudaEngine() = default;
    virtual int32_t getNbIOTensors() const noexcept = 0;
    virtual const char *getIOTensorName(int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(const char *name) const noexcept = 0;
    virtual DataType getTensorDataType(const char *name) const noexcept = 0;
    virtual Dims getTensorShape(const char *name) const noexcept = 0;
    virtual int32_t getTensorVectorizedDim(const char *name) const noexcept = 0;
    virtual Dims getProfileShape(const char *name, int32_t profile, OptProfileSelector which) const noexcept = 0;
#if NV_TENSORRT_MAJOR == 8
    virtual size_t getDeviceMemorySize() const noexcept = 0;
    virtual IExecutionContext *createExecutionContextWithoutDeviceMemory() noexcept = 0;
#else
    virtual int64_t getDeviceMemorySizeV2() const noexcept = 0;
#endif
#ifdef TRT_MAJOR_RTX
    virtual IRuntimeConfig *createRuntimeConfig() noexcept = 0;
    virtual IExecutionContext *createExecutionContext(IRuntimeConfig *config) noexcept = 0;
#elif NV_TENSORRT_MAJOR >= 10
    virtual IExecutionContext *createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept = 0;
#endif
};

class IRuntime {
  public:
    virtual ~IRuntime() = default;
    virtual void setEngineHostCodeAllowed(bool allowed) noexcept = 0;
    virtual void setDLACore(int32_t core) noexcept = 0;
    virtual ICudaEngine *deserializeCudaEngine(const void *blob, size_t nbytes) noexcept = 0;
};

} // namespace nvinfer1
