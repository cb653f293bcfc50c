// Runs one codec case in every way its bytes may arrive.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tunnel::proto {

// A copy of `bytes` that ends where its allocation ends, so that AddressSanitizer sees a read past it.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view bytes) : data_(std::make_unique<char[]>(bytes.size())), size_(bytes.size()) {
    bytes.copy(data_.get(), bytes.size());
  }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_;
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

}  // namespace tunnel::proto
