// One direction of an emulated path: a bottleneck of a given rate with a queue before it, and then a delay.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>

namespace tunnel::bench {

struct PathOptions {
  int64_t delay_ns = 0;
  uint64_t bytes_per_second = 0;  // 0: no bottleneck
  uint64_t queue_bytes = 0;       // what may wait before the bottleneck
  double loss = 0;                // of packets, from 0 to 1
  uint64_t seed = 1;
};

struct PathCounters {
  uint64_t packets = 0;   // that came, with those that were dropped
  uint64_t segments = 0;  // of those, as they would be on the wire
  uint64_t bytes = 0;     // of those
  uint64_t dropped_by_queue = 0;
  uint64_t dropped_by_loss = 0;
  uint64_t dropped_for_memory = 0;  // a fault of the emulation: 0 unless packets are tiny and many
  uint64_t most_queued_bytes = 0;
  uint64_t delivered = 0;
  int64_t latest_ns = 0;  // the most that a packet was delivered after its time
  int64_t late_ns = 0;    // the sum of it
};

// Packets are read into room() and delivered from front(), where they lie in between: in one ring of memory. Times are
// of one clock, in nanoseconds, and never go back. Throws std::bad_alloc only when made.
class OneWay {
 public:
  // The largest packet, with the header that the kernel puts in front (virtio_net_hdr).
  static constexpr size_t kPacketLimitBytes = 10 + 65'536;

  explicit OneWay(const PathOptions& options);

  // Where the next packet is to be read to; kPacketLimitBytes.
  [[nodiscard]] std::span<uint8_t> room();
  // It was: so many bytes, which are `segments` packets of `wire_bytes` together behind the bottleneck.
  void Put(size_t bytes, uint64_t segments, uint64_t wire_bytes, int64_t now_ns);

  // When the next packet is to be delivered; nothing while there is none.
  [[nodiscard]] std::optional<int64_t> due_ns() const;
  [[nodiscard]] std::span<const uint8_t> front() const;
  void Pop(int64_t now_ns);

  [[nodiscard]] const PathCounters& counters() const { return counters_; }

 private:
  struct Head {
    int64_t due_ns;
    size_t bytes;
  };
  static constexpr size_t kStepBytes = 16;
  static_assert(sizeof(Head) <= kStepBytes);
  static constexpr size_t kRecordLimitBytes =
      kStepBytes + (kPacketLimitBytes + kStepBytes - 1) / kStepBytes * kStepBytes;

  [[nodiscard]] bool Fits();
  [[nodiscard]] bool Lost();

  const PathOptions options_;
  const size_t capacity_;
  std::unique_ptr<uint8_t[]> memory_;
  // Records lie from first_ to next_, or from first_ to end_ and from 0 to next_ when they went round.
  size_t first_ = 0;
  size_t next_ = 0;
  size_t end_ = 0;
  bool round_ = false;
  bool fits_ = true;
  std::unique_ptr<uint8_t[]> spare_;  // for what does not fit
  int64_t free_ns_ = 0;               // when the bottleneck has sent everything before it
  std::mt19937_64 random_;
  PathCounters counters_;
};

}  // namespace tunnel::bench
