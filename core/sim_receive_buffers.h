// A bounded set of receive buffers, lent out as slices: what a ring of provided buffers is to io_uring.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "core/check.h"
#include "core/slice.h"

namespace tunnel::core {

// Memory is allocated when it is first needed, each buffer by itself, so that a sanitizer sees who leaves it. What was
// in a buffer is destroyed when it comes back: who still looks at it sees rubbish, not what it hopes for.
class SimReceiveBuffers final : public BufferOwner {
 public:
  SimReceiveBuffers(unsigned buffers, size_t buffer_bytes)
      : made_(buffers), limit_(buffers), buffer_bytes_(buffer_bytes) {
    for (unsigned i = 0; i < buffers; ++i) free_.push_back(buffers - 1 - i);
  }
  SimReceiveBuffers(const SimReceiveBuffers&) = delete;
  SimReceiveBuffers& operator=(const SimReceiveBuffers&) = delete;
  ~SimReceiveBuffers() { TUNNEL_CHECK(lent_ == 0); }

  // A whole buffer to be filled; nullopt when all are out.
  [[nodiscard]] std::optional<Slice> Take() {
    if (available() == 0) return std::nullopt;
    const unsigned id = free_.back();
    free_.pop_back();
    std::unique_ptr<Made>& made = made_[id];
    if (made == nullptr) {
      made = std::make_unique<Made>();
      made->memory = std::make_unique<uint8_t[]>(buffer_bytes_);
      made->buffer.data = made->memory.get();
      made->buffer.capacity = buffer_bytes_;
      made->buffer.id = id;
      made->buffer.owner = this;
    }
    ++lent_;
    return Slice(made->buffer, made->buffer.data, buffer_bytes_);
  }
  // So many bytes of the buffer were written.
  void NoteUse(const Buffer& buffer, size_t bytes) { made_[buffer.id]->used = bytes; }
  void Recycle(Buffer& buffer) override {
    Made& made = *made_[buffer.id];
    std::memset(buffer.data, 0xdb, made.used);
    made.used = 0;
    --lent_;
    free_.push_back(buffer.id);
  }
  [[nodiscard]] bool scarce() const override { return available() < limit_ / 2; }

  [[nodiscard]] size_t lent() const { return lent_; }
  // Who found none may try again: half of them are back.
  [[nodiscard]] bool recovered() const { return available() > 0 && !scarce(); }
  // At most this many at a time; nullopt: all.
  void Limit(std::optional<unsigned> buffers) {
    limit_ = std::min<size_t>(buffers.value_or(static_cast<unsigned>(made_.size())), made_.size());
  }

 private:
  struct Made {
    Buffer buffer;
    std::unique_ptr<uint8_t[]> memory;
    size_t used = 0;
  };
  [[nodiscard]] size_t available() const { return limit_ > lent_ ? limit_ - lent_ : 0; }

  std::vector<std::unique_ptr<Made>> made_;
  std::vector<unsigned> free_;
  size_t limit_;
  const size_t buffer_bytes_;
  size_t lent_ = 0;
};

}  // namespace tunnel::core
