// Puts a datagram together again that comes as pieces of a message.
#pragma once

#include <algorithm>
#include <optional>

#include "core/buffer_pool.h"
#include "core/limits.h"

namespace tunnel::net {

class DatagramAssembler {
 public:
  explicit DatagramAssembler(core::BufferPool& pool) : pool_(pool) {}

  void Begin() {
    whole_.Reset();
    copied_ = false;
    too_long_ = false;
  }
  // A datagram in one piece is not copied.
  void Add(core::Slice piece) {
    if (too_long_) return;
    if (whole_.size() + piece.size() > core::kMaxDatagramBytes) {
      too_long_ = true;
      whole_.Reset();
    } else if (whole_.empty()) {
      whole_ = std::move(piece);
    } else {
      if (!copied_) {
        core::Slice block = pool_.Allocate(core::kMaxDatagramBytes);
        std::copy(whole_.bytes().begin(), whole_.bytes().end(), block.data());
        block.Truncate(whole_.size());
        whole_ = std::move(block);
        copied_ = true;
      }
      whole_.Append(piece.bytes());
    }
  }
  // nullopt when it is longer than any datagram.
  [[nodiscard]] std::optional<core::Slice> Take() {
    if (too_long_) return std::nullopt;
    return std::move(whole_);
  }

 private:
  core::BufferPool& pool_;
  core::Slice whole_;
  bool copied_ = false;
  bool too_long_ = false;
};

}  // namespace tunnel::net
