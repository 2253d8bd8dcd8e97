//===- MiliPlan.h - the mili_plan dialect ----------------------------------===//
#ifndef MILI_IR_MILIPLAN_H
#define MILI_IR_MILIPLAN_H

#include "mili/IR/MiliDialect.h"

#include "mili/IR/MiliPlanDialect.h.inc"
#include "mili/IR/MiliPlanEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "mili/IR/MiliPlanAttrs.h.inc"
#define GET_OP_CLASSES
#include "mili/IR/MiliPlanOps.h.inc"

#endif  // MILI_IR_MILIPLAN_H
