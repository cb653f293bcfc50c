// Memory straight from the system, for what grows in large pieces and is looked into at random.
#pragma once

#include <cstddef>

namespace tunnel::core {

// From this size on, pages are asked to be huge: a table of many megabytes otherwise costs a walk of the page table
// each look. The system decides, and /sys/kernel/mm/transparent_hugepage/enabled.
inline constexpr size_t kHugePageBytes = size_t{2} * 1024 * 1024;

// Zeroed memory, aligned to a page, and to kHugePageBytes where `bytes` is a multiple of that. The system gives it page
// by page when it is touched, so that this takes no longer for much than for little. Null when there is none. Any
// thread.
[[nodiscard]] void* MapPages(size_t bytes);
// Gives back what MapPages(bytes) returned.
void UnmapPages(void* pages, size_t bytes);

}  // namespace tunnel::core
