// Sending and receiving the blocks of a bulk stream, at most one block a call: streams take turns.
#pragma once

#include <cstdint>

#include "bench/load/wire.h"

namespace tunnel::bench {

enum class Progress {
  kMore,  // call again when the socket is ready
  kLast,  // the last block is through
};

// Throws std::runtime_error when the connection breaks, as BlockReceiver does.
class BlockSender {
 public:
  // Sends what the socket takes of the current block. A block that begins when `finish` is set is the last one.
  Progress Send(int fd, bool finish);

  uint64_t total_bytes() const { return total_bytes_; }

 private:
  BlockHead head_;
  size_t offset_ = 0;  // within the current block
  uint64_t total_bytes_ = 0;
};

// Throws std::runtime_error also when a block is not the one that is due, or bytes are missing.
class BlockReceiver {
 public:
  // Receives once; the bytes are thrown away, heads are checked.
  Progress Receive(int fd);

  uint64_t total_bytes() const { return total_bytes_; }

 private:
  BlockHead head_;
  uint64_t due_ = 0;   // the sequence number of the current block
  size_t offset_ = 0;  // within the current block
  uint64_t total_bytes_ = 0;
};

}  // namespace tunnel::bench
