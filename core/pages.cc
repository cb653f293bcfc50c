#include "core/pages.h"

#include <sys/mman.h>

#include <cstdint>

#include "core/check.h"

namespace tunnel::core {

void* MapPages(size_t bytes) {
  const bool huge = bytes != 0 && bytes % kHugePageBytes == 0;
  const size_t spare = huge ? kHugePageBytes : 0;
  void* mapped = mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (!huge) return mapped;
  // What is before and behind the aligned part goes back.
  auto* pages = static_cast<uint8_t*>(mapped);
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(pages) % kHugePageBytes) % kHugePageBytes;
  if (before > 0) UnmapPages(pages, before);
  pages += before;
  if (spare > before) UnmapPages(pages + bytes, spare - before);
  // Without huge pages it works as well, and slower.
  (void)madvise(pages, bytes, MADV_HUGEPAGE);
  return pages;
}

void UnmapPages(void* pages, size_t bytes) { TUNNEL_CHECK(munmap(pages, bytes) == 0); }

}  // namespace tunnel::core
