// A reactor's buffers: blocks of three sizes, recycled through free lists.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "core/slice.h"

namespace tunnel::core {

// Owner core only. Memory grows with use and is kept for reuse up to kKeptBytes; the bound on what is in use is the sum
// of the bounds of those who hold slices (send queues, parked bytes), written where they are.
class BufferPool final : public BufferOwner {
 public:
  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  // Every slice must be gone.
  ~BufferPool();

  static constexpr std::array<size_t, 3> kBlockBytes = {size_t{2} * 1024, size_t{16} * 1024, size_t{64} * 1024};
  static constexpr size_t kMaxBlockBytes = kBlockBytes.back();
  static constexpr size_t kKeptBytes = size_t{8} * 1024 * 1024;

  // A writable slice over a whole block of at least `bytes` (at most kMaxBlockBytes); its contents are undefined. Never
  // fails: running out of memory ends the process.
  [[nodiscard]] Slice Allocate(size_t bytes);
  // A copy of `bytes` (at most kMaxBlockBytes) in a block of its own.
  [[nodiscard]] Slice Copy(std::span<const uint8_t> bytes);
  [[nodiscard]] Slice Copy(std::string_view text);

  // A slice of the same bytes that may be held for long: `slice` itself, or a copy when it pins a scarce receive buffer
  // or is small and pins a large one.
  [[nodiscard]] Slice ForHolding(Slice slice);

  [[nodiscard]] size_t blocks_in_use() const { return blocks_in_use_; }
  [[nodiscard]] size_t bytes_in_use() const { return bytes_in_use_; }

  void Recycle(Buffer& buffer) override;

 private:
  struct SizeClass {
    Buffer* free = nullptr;
  };
  std::array<SizeClass, kBlockBytes.size()> classes_;
  size_t blocks_in_use_ = 0;
  size_t bytes_in_use_ = 0;
  size_t kept_bytes_ = 0;
};

}  // namespace tunnel::core
