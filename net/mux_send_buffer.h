// What a stream of mux/2 sends: bytes are kept from when they are given until the peer has confirmed them, so that they
// can be sent again on another channel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "net/slice_queue.h"

namespace tunnel::net {

// Offsets count the stream's bytes from 0 (docs/wire-native.md). released() <= next() <= end().
class MuxSendBuffer {
 public:
  explicit MuxSendBuffer(core::BufferPool& pool) : kept_(pool) {}

  // Puts bytes behind the last. Not after Finish().
  void Append(core::Slice data) {
    end_ += data.size();
    kept_.Push(std::move(data));
  }
  // FIN follows the bytes that are there.
  void Finish() { finished_ = true; }

  [[nodiscard]] uint64_t released() const { return released_; }  // the first byte that is kept
  [[nodiscard]] uint64_t next() const { return next_; }          // the first that is to be sent
  [[nodiscard]] uint64_t end() const { return end_; }
  [[nodiscard]] size_t kept() const { return kept_.bytes(); }
  [[nodiscard]] size_t unsent() const { return static_cast<size_t>(end_ - next_); }
  [[nodiscard]] bool finished() const { return finished_; }
  // FIN goes with, or behind, the byte before `offset`.
  [[nodiscard]] bool FinIsAt(uint64_t offset) const { return finished_ && !fin_sent_ && offset == end_; }
  // All that is left to send is FIN.
  [[nodiscard]] bool fin_due() const { return FinIsAt(next_); }
  // FIN was delivered to the peer's application: nothing more can come of this direction.
  [[nodiscard]] bool delivered() const { return delivered_; }

  // Bytes to be sent next that lie in one piece, at most `most`.
  [[nodiscard]] std::span<const uint8_t> Next(size_t most) {
    const std::span<const uint8_t> piece = kept_.Peek(cursor_);
    return piece.first(std::min(piece.size(), most));
  }
  // The first `bytes` of Next() were sent; with FIN where that is at their end.
  void Sent(size_t bytes) {
    SliceQueue::Advance(cursor_, bytes);
    next_ += bytes;
    fin_sent_ |= FinIsAt(next_);
  }

  // The peer has handed everything below `consumed` to its application, and FIN too with `fin`. False when it cannot
  // have, or says less than before.
  [[nodiscard]] bool OnConsumed(uint64_t consumed, bool fin) {
    if (consumed < consumed_ || consumed > next_ || (fin && (!fin_sent_ || consumed != end_))) return false;
    consumed_ = consumed;
    delivered_ |= fin;
    Release(consumed);
    return true;
  }
  // The stream has moved; the peer has received everything below `received`, and FIN too with `fin`: what is behind is
  // to be sent again. False when it cannot have, or says less than before.
  [[nodiscard]] bool Rewind(uint64_t received, bool fin) {
    if (received < released_ || received > next_ || (fin ? !fin_sent_ || received != end_ : delivered_)) return false;
    Release(received);
    next_ = received;
    cursor_ = kept_.At(0);
    fin_sent_ = fin;
    return true;
  }
  // Nothing more will be sent: lets go of what is kept.
  void Clear() {
    kept_.Clear();
    released_ = next_ = end_;
    cursor_ = kept_.At(0);
  }

 private:
  void Release(uint64_t offset) {
    if (offset <= released_) return;
    kept_.Drop(static_cast<size_t>(offset - released_));
    released_ = offset;
  }

  SliceQueue kept_;
  SliceQueue::Cursor cursor_;
  uint64_t released_ = 0;
  uint64_t next_ = 0;
  uint64_t end_ = 0;
  uint64_t consumed_ = 0;
  bool finished_ = false;
  bool fin_sent_ = false;
  bool delivered_ = false;
};

}  // namespace tunnel::net
