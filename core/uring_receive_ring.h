// A ring of provided buffers: what io_uring receives into.
#pragma once

#include <liburing.h>
#include <sys/mman.h>

#include <memory>

#include "core/backend.h"
#include "core/intrusive_list.h"
#include "core/slice.h"
#include "core/status.h"

namespace tunnel::core {

// Buffers of one size that are lent to the kernel for receives, and the ring that lends them. Owner core only. Every
// slice must be gone when it is destroyed, and the io_uring it was registered with closed before or right after.
class UringReceiveRing final : public BufferOwner {
 public:
  // `buffers`: a power of two.
  UringReceiveRing(uint16_t group, unsigned buffers, size_t buffer_bytes);
  UringReceiveRing(const UringReceiveRing&) = delete;
  UringReceiveRing& operator=(const UringReceiveRing&) = delete;
  ~UringReceiveRing();

  // Makes the ring known as its group and gives it all buffers. Once.
  [[nodiscard]] absl::Status Register(io_uring& ring);

  // A slice over what the kernel wrote into buffer `id`.
  [[nodiscard]] Slice Take(uint32_t id, size_t bytes);
  void Recycle(Buffer& buffer) override;
  // Half of them are out: what is held for long should be copied.
  [[nodiscard]] bool scarce() const override { return free() < size_ / 2; }

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] size_t lent() const { return lent_; }
  [[nodiscard]] size_t free() const { return size_ - lent_; }

  // Receives that found no buffer. They stay started; nothing of theirs is in the kernel.
  [[nodiscard]] IntrusiveList<Operation, BackendList>& starved() { return starved_; }

 private:
  [[nodiscard]] size_t memory_bytes() const { return size_ * buffer_bytes_; }
  [[nodiscard]] size_t entries_bytes() const { return size_ * sizeof(io_uring_buf); }
  void Give(Buffer& buffer);

  const uint16_t group_;
  const unsigned size_;
  const size_t buffer_bytes_;
  void* memory_ = MAP_FAILED;
  void* entries_ = MAP_FAILED;
  io_uring_buf_ring* ring_ = nullptr;
  std::unique_ptr<Buffer[]> buffers_;
  size_t lent_ = 0;
  IntrusiveList<Operation, BackendList> starved_;
};

}  // namespace tunnel::core
