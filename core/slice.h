// Reference-counted views of buffers: how payload moves through the program without being copied.
//
// A Buffer is a block of memory with a count of the slices that look into it; when the last one goes, the block returns
// to the BufferOwner it came from (a pool, or the ring of receive buffers the kernel writes into). Counts are plain
// integers: a buffer and its slices belong to one reactor's thread for life, and bytes cross threads by copy only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "core/check.h"

namespace tunnel::core {

struct Buffer;

class BufferOwner {
 public:
  // Takes back a buffer whose last slice is gone.
  virtual void Recycle(Buffer& buffer) = 0;
  // Whether this owner is short of buffers, so that slices of it that are to be held should be copied elsewhere.
  [[nodiscard]] virtual bool scarce() const { return false; }

 protected:
  ~BufferOwner() = default;
};

struct Buffer {
  uint8_t* data = nullptr;
  size_t capacity = 0;
  uint32_t references = 0;
  uint32_t id = 0;  // meaning belongs to the owner
  BufferOwner* owner = nullptr;
  Buffer* next_free = nullptr;
};

// A part of a buffer, holding a reference to it. Movable; Share() makes another reference explicitly.
class Slice {
 public:
  Slice() = default;
  // A view of [data, data + size), which must lie in `buffer`.
  Slice(Buffer& buffer, uint8_t* data, size_t size) : buffer_(&buffer), data_(data), size_(size) {
    ++buffer.references;
  }
  Slice(Slice&& other) noexcept
      : buffer_(std::exchange(other.buffer_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Slice& operator=(Slice&& other) noexcept {
    if (this != &other) {
      Reset();
      buffer_ = std::exchange(other.buffer_, nullptr);
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~Slice() { Reset(); }

  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<uint8_t> bytes() const { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  [[nodiscard]] Buffer* buffer() const { return buffer_; }

  [[nodiscard]] Slice Share() const { return Share(0, size_); }
  // A further reference to `size` bytes from `offset` of this slice.
  [[nodiscard]] Slice Share(size_t offset, size_t size) const {
    TUNNEL_CHECK(offset <= size_ && size <= size_ - offset);
    return buffer_ == nullptr ? Slice() : Slice(*buffer_, data_ + offset, size);
  }
  // A further reference to `part`, which must lie inside this slice (a codec returned it).
  [[nodiscard]] Slice ShareSpan(std::span<const uint8_t> part) const {
    return Share(static_cast<size_t>(part.data() - data_), part.size());
  }
  void RemovePrefix(size_t bytes) {
    TUNNEL_CHECK(bytes <= size_);
    data_ += bytes;
    size_ -= bytes;
  }
  void Truncate(size_t bytes) {
    TUNNEL_CHECK(bytes <= size_);
    size_ = bytes;
  }
  // Bytes of the buffer behind this slice's end.
  [[nodiscard]] size_t room() const {
    return buffer_ == nullptr ? 0 : static_cast<size_t>(buffer_->data + buffer_->capacity - (data_ + size_));
  }
  // Writes `bytes` behind this slice's end and takes them in. Only for a buffer's single slice, with room for them.
  void Append(std::span<const uint8_t> bytes) {
    TUNNEL_CHECK(buffer_ != nullptr && buffer_->references == 1 && bytes.size() <= room());
    std::copy(bytes.begin(), bytes.end(), data_ + size_);
    size_ += bytes.size();
  }
  void Reset() {
    if (buffer_ != nullptr) {
      TUNNEL_CHECK(buffer_->references > 0);
      if (--buffer_->references == 0) buffer_->owner->Recycle(*buffer_);
    }
    buffer_ = nullptr;
    data_ = nullptr;
    size_ = 0;
  }

 private:
  Buffer* buffer_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tunnel::core
