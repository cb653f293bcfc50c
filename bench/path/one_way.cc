#include "bench/path/one_way.h"

#include <algorithm>
#include <cstring>

namespace tunnel::bench {
namespace {

constexpr double kNanoseconds = 1e9;

// What is under way and what waits, and as much again for heads and for packets far below the usual size.
size_t MemoryFor(const PathOptions& options, size_t slack) {
  const double under_way =
      static_cast<double>(options.bytes_per_second) * static_cast<double>(options.delay_ns) / kNanoseconds;
  const double unlimited = options.bytes_per_second == 0 ? 256e6 : 0;
  return (static_cast<size_t>(2 * (under_way + static_cast<double>(options.queue_bytes)) + unlimited) + slack) / 16 *
         16;
}

}  // namespace

OneWay::OneWay(const PathOptions& options)
    : options_(options),
      capacity_(MemoryFor(options, 64 * kRecordLimitBytes)),
      memory_(std::make_unique_for_overwrite<uint8_t[]>(capacity_)),
      spare_(std::make_unique_for_overwrite<uint8_t[]>(kPacketLimitBytes)),
      random_(options.seed) {}

bool OneWay::Fits() {
  if (!round_ && capacity_ - next_ < kRecordLimitBytes && first_ > kRecordLimitBytes) {
    end_ = next_;
    next_ = 0;
    round_ = true;
  }
  return round_ ? first_ - next_ > kRecordLimitBytes : capacity_ - next_ >= kRecordLimitBytes;
}

std::span<uint8_t> OneWay::room() {
  fits_ = Fits();
  return {fits_ ? memory_.get() + next_ + kStepBytes : spare_.get(), kPacketLimitBytes};
}

bool OneWay::Lost() { return options_.loss > 0 && std::uniform_real_distribution<double>()(random_) < options_.loss; }

void OneWay::Put(size_t bytes, uint64_t segments, uint64_t wire_bytes, int64_t now_ns) {
  ++counters_.packets;
  counters_.segments += segments;
  counters_.bytes += wire_bytes;
  // In front of the bottleneck, so that what is lost takes nothing of its rate, as on a bad access link.
  if (Lost()) {
    ++counters_.dropped_by_loss;
    return;
  }
  if (!fits_) {
    ++counters_.dropped_for_memory;
    return;
  }
  int64_t sent_ns = now_ns;
  if (options_.bytes_per_second > 0) {
    const auto rate = static_cast<double>(options_.bytes_per_second);
    free_ns_ = std::max(free_ns_, now_ns);
    const auto queued = static_cast<uint64_t>(static_cast<double>(free_ns_ - now_ns) * rate / kNanoseconds);
    if (queued + wire_bytes > options_.queue_bytes) {
      ++counters_.dropped_by_queue;
      return;
    }
    counters_.most_queued_bytes = std::max(counters_.most_queued_bytes, queued + wire_bytes);
    free_ns_ += static_cast<int64_t>(static_cast<double>(wire_bytes) * kNanoseconds / rate);
    sent_ns = free_ns_;
  }
  const Head head{.due_ns = sent_ns + options_.delay_ns, .bytes = bytes};
  std::memcpy(memory_.get() + next_, &head, sizeof(head));
  next_ += kStepBytes + (bytes + kStepBytes - 1) / kStepBytes * kStepBytes;
}

std::optional<int64_t> OneWay::due_ns() const {
  if (!round_ && first_ == next_) return std::nullopt;
  Head head{};
  std::memcpy(&head, memory_.get() + first_, sizeof(head));
  return head.due_ns;
}

std::span<const uint8_t> OneWay::front() const {
  Head head{};
  std::memcpy(&head, memory_.get() + first_, sizeof(head));
  return {memory_.get() + first_ + kStepBytes, head.bytes};
}

void OneWay::Pop(int64_t now_ns) {
  Head head{};
  std::memcpy(&head, memory_.get() + first_, sizeof(head));
  ++counters_.delivered;
  counters_.latest_ns = std::max(counters_.latest_ns, now_ns - head.due_ns);
  counters_.late_ns += now_ns - head.due_ns;
  first_ += kStepBytes + (head.bytes + kStepBytes - 1) / kStepBytes * kStepBytes;
  if (round_ && first_ == end_) {
    first_ = 0;
    round_ = false;
  }
  // Memory that is in the caches first.
  if (!round_ && first_ == next_) first_ = next_ = 0;
}

}  // namespace tunnel::bench
