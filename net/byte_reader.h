// Pulls from a ByteStream for sequences: handshakes, upgrades, negotiations.
#pragma once

#include <deque>

#include "core/task.h"
#include "net/byte_stream.h"

namespace tunnel::net {

// Becomes the stream's handler for as long as it lives. It reads one slice ahead, then pauses the stream. Detach()
// gives the stream to the next handler with what was read and not used.
class ByteReader final : ByteStream::Handler {
 public:
  explicit ByteReader(ByteStream& stream);
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;
  ~ByteReader();

  // The next bytes; an empty slice at the end of the stream; or why the stream died or the wait was cut short.
  [[nodiscard]] core::Task<absl::StatusOr<core::Slice>> Read();
  // Puts back what a parser did not use; it is read first next time.
  void Unread(core::Slice data);
  // Waits until what was sent is with the kernel, down to the stream's low-water mark, or it died.
  [[nodiscard]] core::Task<absl::Status> Drained();

  // Bytes already received, without waiting; they are handed over.
  [[nodiscard]] std::deque<core::Slice> TakeReceived();
  // Stops being the handler. Whether the end of the stream or its death was seen is told by ended() and dead().
  void Detach();
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] const absl::Status& dead() const { return dead_; }

 private:
  void OnData(core::Slice data) override;
  void OnEnd() override;
  void OnDrained() override;
  void OnDead(absl::Status reason) override;

  ByteStream* stream_;
  std::deque<core::Slice> received_;
  bool ended_ = false;
  absl::Status dead_;
  core::Event changed_;
};

}  // namespace tunnel::net
