//===- HeadSizes.h - what every reader of a configuration checks ------------===//
#ifndef MILI_FRONTENDS_IMPORT_HEADSIZES_H
#define MILI_FRONTENDS_IMPORT_HEADSIZES_H

#include "mili/Frontends/Architecture.h"

namespace mlir::mili {

/// Relations between heads and their size, in the file's own names. Afterwards tables of RoPE are small and products of
/// heads and sizes fit 32 bits, whatever the file says; sizes that fail are set to 1.
void checkHeads(::mili::JsonFields &fields, DecoderConfig &config, const std::string &headsField,
                const std::string &kvHeadsField, const std::string &headDimField);

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_IMPORT_HEADSIZES_H
