// The cores that this process may run on.
#pragma once

#include <vector>

namespace mili {

// The first CPU of each physical core in the affinity mask, ascending; never empty.
std::vector<int> physical_cores();

}  // namespace mili
