// The command line of the programs of bench/: "--name value" pairs.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace tunnel::bench {

inline constexpr double kSecondsLimit = 600;

// A mistake on the command line.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Takes "--name value" pairs one at a time.
class Arguments {
 public:
  explicit Arguments(std::span<char*> arguments) : left_(arguments) {}

  bool Next() {
    if (left_.empty()) return false;
    name_ = left_.front();
    left_ = left_.subspan(1);
    return true;
  }
  std::string_view name() const { return name_; }
  std::string_view Text() {
    if (left_.empty()) throw UsageError(fmt::format("{}: a value is missing", name_));
    const std::string_view text = left_.front();
    left_ = left_.subspan(1);
    return text;
  }
  template <typename Number>
  Number Within(Number low, Number high) {
    const std::string_view text = Text();
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !(number >= low && number <= high)) {
      throw UsageError(fmt::format("{}: '{}' is not a number from {} to {}", name_, text, low, high));
    }
    return number;
  }
  uint16_t Port() { return Within<uint16_t>(1, 65535); }
  uint32_t Milliseconds() { return static_cast<uint32_t>(std::lround(Within<double>(0.01, kSecondsLimit) * 1000)); }
  [[noreturn]] void Unknown() const { throw UsageError(fmt::format("unknown argument '{}'", name_)); }

 private:
  std::span<char*> left_;
  std::string_view name_;
};

}  // namespace tunnel::bench
