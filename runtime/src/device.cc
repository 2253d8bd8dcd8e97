#include "mili/runtime/device.h"

namespace mili {

DeviceBuffer::~DeviceBuffer() {
  if (device_)
    device_->release(address_, size_);
}

uint64_t launch_tiles(const Launch &launch, const Batch &batch) {
  int64_t rows = 0;
  switch (launch.tiles_per) {
  case RowCount::kOne: return launch.tiles_fixed;
  case RowCount::kTokens: rows = batch.tokens; break;
  case RowCount::kLogitRows: rows = batch.logit_rows; break;
  case RowCount::kSequences: rows = batch.sequences; break;
  }
  return launch.tiles_fixed * ((static_cast<uint64_t>(rows) + launch.rows_per_tile - 1) / launch.rows_per_tile);
}

}  // namespace mili
