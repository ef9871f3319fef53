// What Linux gives as one page where memory is aligned to it and large enough, on x86-64 and mostly on arm64.
#pragma once

#include <cstddef>

namespace alma {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace alma
