// The message under way of a decoder that reads messages of a few hundred bytes, whose lengths show as they arrive, and
// must take not one byte more: what follows belongs to somebody else, or is payload that is passed on where it lies.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/check.h"

namespace tunnel::proto {

// Owner's thread only. `kCapacity`: the longest message, in bytes.
template <size_t kCapacity>
class MessageGatherer {
 public:
  // Hands over the next bytes of the connection, which must stay alive until they are consumed or Gather is no longer
  // called. The bytes fed before must have been consumed, all of them.
  void Feed(std::span<const uint8_t> input) {
    TUNNEL_CHECK(consumed_ == input_.size());
    input_ = input;
    consumed_ = 0;
  }
  // How many of the bytes last fed have been taken.
  [[nodiscard]] size_t consumed() const { return consumed_; }

  // Copies input until the message holds `bytes`. False when there is not enough of it.
  [[nodiscard]] bool Gather(size_t bytes) {
    TUNNEL_CHECK(bytes <= kCapacity);
    if (size_ >= bytes) return true;
    const size_t taken = std::min(bytes - size_, available());
    std::copy_n(input_.begin() + static_cast<ptrdiff_t>(consumed_), taken,
                message_.begin() + static_cast<ptrdiff_t>(size_));
    size_ += taken;
    consumed_ += taken;
    return size_ == bytes;
  }
  // The first `kCapacity` bytes of the message; those gathered are its own.
  [[nodiscard]] std::span<const uint8_t, kCapacity> message() const { return message_; }
  // How many bytes of the message are gathered.
  [[nodiscard]] size_t size() const { return size_; }
  // Input that is not taken yet.
  [[nodiscard]] size_t available() const { return input_.size() - consumed_; }
  // Takes the next bytes of the input, at most `limit`, without gathering them.
  [[nodiscard]] std::span<const uint8_t> Take(size_t limit) {
    const auto taken = input_.subspan(consumed_, std::min(limit, available()));
    consumed_ += taken.size();
    return taken;
  }
  // The next byte gathered is the first of another message.
  void StartMessage() { size_ = 0; }

 private:
  std::span<const uint8_t> input_;
  size_t consumed_ = 0;
  std::array<uint8_t, kCapacity> message_{};
  size_t size_ = 0;
};

}  // namespace tunnel::proto
