#pragma once

#include "mili/IR/MiliDialect.h"

#include "NormDialect.h.inc"
#define GET_OP_CLASSES
#include "NormOps.h.inc"
