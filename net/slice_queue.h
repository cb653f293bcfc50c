// Bytes that are held for a while, in order: sent and not yet confirmed, or received and not yet taken.
#pragma once

#include <cstddef>
#include <vector>

#include "core/buffer_pool.h"

namespace tunnel::net {

// Holds slices without pinning more memory than they need: small ones are copied together, those of scarce receive
// buffers are copied out (BufferPool::ForHolding). So the bound on bytes, which its owner keeps, is one on memory too.
// Empty, it has no memory of its own. Owner core only.
class SliceQueue {
 public:
  explicit SliceQueue(core::BufferPool& pool) : pool_(pool) {}
  SliceQueue(const SliceQueue&) = delete;
  SliceQueue& operator=(const SliceQueue&) = delete;

  // Puts `data` behind what is there. Nothing of an empty slice.
  void Push(core::Slice data);
  // Takes the first slice; there must be one.
  [[nodiscard]] core::Slice Pop();
  // Drops the first `bytes` bytes, which must be there.
  void Drop(size_t bytes);
  void Clear();

  [[nodiscard]] bool empty() const { return bytes_ == 0; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

  // A place in the queue, for who reads it without taking. Dropping what is before it does not move it.
  class Cursor {
   public:
    Cursor() = default;

   private:
    friend class SliceQueue;
    Cursor(size_t slice, size_t offset) : slice_(slice), offset_(offset) {}
    size_t slice_ = 0;   // counted over the queue's life, so that dropping in front does not move it
    size_t offset_ = 0;  // within that slice as it was pushed
  };
  // The place `offset` bytes behind the front; offset <= bytes().
  [[nodiscard]] Cursor At(size_t offset) const;
  // Bytes from there on that lie in one piece; none at the end.
  [[nodiscard]] std::span<const uint8_t> Peek(Cursor& at) const;
  // Moves `at` on by at most what Peek() returned.
  static void Advance(Cursor& at, size_t bytes) { at.offset_ += bytes; }

 private:
  // The slice with this number; nullptr behind the last.
  [[nodiscard]] const core::Slice* Find(size_t number) const;
  void PopFront();

  core::BufferPool& pool_;
  std::vector<core::Slice> slices_;  // those before head_ are gone
  size_t head_ = 0;
  size_t skip_ = 0;    // bytes of the first slice that were dropped; it keeps them, so that cursors hold
  size_t popped_ = 0;  // slices that were taken from the front over the queue's life
  size_t bytes_ = 0;
};

}  // namespace tunnel::net
