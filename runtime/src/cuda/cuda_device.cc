#include "mili/runtime/device.h"

namespace mili {

StatusOr<std::unique_ptr<Device>> create_cuda_device(const CudaOptions &) {
  return unimplemented("the device \"cuda\" is not written yet");
}

}  // namespace mili
