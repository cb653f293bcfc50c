// How tests hand bytes to a codec: flush against an inaccessible page, so that one byte read or written past the input
// faults in every build, and cut in every way they may arrive.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "tests/unit/as_bytes.h"

namespace tunnel::proto {

class GuardedInput {
 public:
  explicit GuardedInput(size_t capacity_bytes = 4096) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (capacity_bytes + page - 1) / page * page;
    mapped_ = bytes_ + page;
    void* at = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TUNNEL_CHECK(at != MAP_FAILED);
    base_ = static_cast<uint8_t*>(at);
    TUNNEL_CHECK(mprotect(base_ + bytes_, page, PROT_NONE) == 0);
  }
  ~GuardedInput() { munmap(base_, mapped_); }
  GuardedInput(const GuardedInput&) = delete;
  GuardedInput& operator=(const GuardedInput&) = delete;

  // Copies `input` flush against the guard page. What was placed before is overwritten, so that a view kept for too
  // long shows as a wrong result.
  std::span<uint8_t> Place(std::span<const uint8_t> input) {
    TUNNEL_CHECK(input.size() <= bytes_);
    if (last_ > 0) std::memset(base_ + bytes_ - last_, 0xEE, last_);
    last_ = input.size();
    uint8_t* to = base_ + bytes_ - input.size();
    if (!input.empty()) std::memcpy(to, input.data(), input.size());
    return {to, input.size()};
  }
  std::span<uint8_t> Place(std::string_view input) {
    return Place({reinterpret_cast<const uint8_t*>(input.data()), input.size()});
  }

 private:
  uint8_t* base_;
  size_t bytes_;
  size_t mapped_;
  size_t last_ = 0;
};

// A copy of `bytes` against a guard page of its own.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view bytes) : guarded_(bytes.size()), placed_(guarded_.Place(bytes)) {}
  [[nodiscard]] std::string_view view() const {
    return {reinterpret_cast<const char*>(placed_.data()), placed_.size()};
  }

 private:
  GuardedInput guarded_;
  std::span<uint8_t> placed_;
};

// How `input` is cut: `pieces` joined are the input, with `trailing` bytes at its end that are not the codec's.
struct Arrival {
  std::string_view how;
  std::vector<std::string> pieces;
  size_t trailing = 0;
};

// Calls `run` with `input` whole, byte by byte, and whole and byte by byte with bytes behind it.
inline void ForEachArrival(std::string_view input, const std::function<void(const Arrival&)>& run) {
  const auto bytewise = [](std::string_view bytes) {
    std::vector<std::string> pieces;
    for (const char c : bytes) pieces.emplace_back(1, c);
    return pieces;
  };
  const std::string trailed = std::string(input) + std::string("GET\0\xff\r\n\r\n", 9);
  run({.how = "whole", .pieces = {std::string(input)}});
  run({.how = "byte by byte", .pieces = bytewise(input)});
  run({.how = "with trailing bytes", .pieces = {trailed}, .trailing = trailed.size() - input.size()});
  run({.how = "byte by byte with trailing bytes",
       .pieces = bytewise(trailed),
       .trailing = trailed.size() - input.size()});
}

// Calls feed(piece) for `input` cut into pieces of `piece_bytes` (0: one piece), each against a guard page and gone
// when the next is fed.
template <typename F>
void FeedInPieces(std::string_view input, size_t piece_bytes, F&& feed) {
  if (piece_bytes == 0) piece_bytes = input.size() + 1;
  GuardedInput guarded(input.size() + 1);
  do {
    const auto piece = input.substr(0, piece_bytes);
    input.remove_prefix(piece.size());
    feed(guarded.Place(piece));
  } while (!input.empty());
}

inline std::string AsString(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace tunnel::proto
