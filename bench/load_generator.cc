// Both ends of a measurement through a tunnel, for bench/run: prints one JSON object and ends with 0, or says on
// standard error what went wrong and ends with 1; 2 for a mistake on the command line.
//
//   load_generator target   [--port N]
//   load_generator bulk     --port N --direction up|down [--streams N] [--seconds S]
//   load_generator requests --port N [--socks-target N] [--workers N] [--size BYTES] [--reuse] [--interval-us N]
//                           [--seconds S]
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bench/load/bulk.h"
#include "bench/load/requests.h"
#include "bench/load/target.h"
#include "bench/load/wire.h"

namespace tunnel::bench {
namespace {

constexpr uint32_t kStreamLimit = 10'000;
constexpr double kSecondsLimit = 600;

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

// User and system time of this process so far.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int Target(Arguments arguments) {
  uint16_t port = 0;
  while (arguments.Next()) {
    if (arguments.name() != "--port") arguments.Unknown();
    port = arguments.Port();
  }
  return RunTarget(port);
}

int Bulk(Arguments arguments) {
  BulkOptions options;
  while (arguments.Next()) {
    const std::string_view name = arguments.name();
    if (name == "--port") {
      options.port = arguments.Port();
    } else if (name == "--direction") {
      const std::string_view text = arguments.Text();
      if (text != "up" && text != "down") throw UsageError("--direction: expected up or down");
      options.direction = text == "up" ? Direction::kUp : Direction::kDown;
    } else if (name == "--streams") {
      options.streams = arguments.Within<uint32_t>(1, kStreamLimit);
    } else if (name == "--seconds") {
      options.duration_ms = arguments.Milliseconds();
    } else {
      arguments.Unknown();
    }
  }
  const BulkResult result = RunBulk(options);
  std::string window;
  for (const uint64_t bytes : result.window_bytes) window += fmt::format("{}{}", window.empty() ? "" : ", ", bytes);
  fmt::print(
      "{{\"duration_seconds\": {}, \"elapsed_seconds\": {}, \"total_bytes\": {}, \"window_bytes\": [{}], "
      "\"congestion_control\": \"{}\", \"cpu_seconds\": {}}}\n",
      options.duration_ms / 1e3, result.elapsed_seconds, result.total_bytes, window, result.congestion_control,
      CpuSeconds());
  return 0;
}

int Requests(Arguments arguments) {
  RequestOptions options;
  while (arguments.Next()) {
    const std::string_view name = arguments.name();
    if (name == "--port") {
      options.port = arguments.Port();
    } else if (name == "--socks-target") {
      options.socks_target_port = arguments.Port();
    } else if (name == "--workers") {
      options.workers = arguments.Within<uint32_t>(1, kStreamLimit);
    } else if (name == "--size") {
      options.size = arguments.Within<uint32_t>(1, kAnswerLimitBytes);
    } else if (name == "--reuse") {
      options.reuse = true;
    } else if (name == "--interval-us") {
      options.interval_us = arguments.Within<uint32_t>(0, 10'000'000);
    } else if (name == "--seconds") {
      options.duration_ms = arguments.Milliseconds();
    } else {
      arguments.Unknown();
    }
  }
  RequestResult result = RunRequests(options);
  std::vector<int64_t>& sorted = result.latencies_ns;
  std::ranges::sort(sorted);
  if (sorted.empty()) throw std::runtime_error("no request was made");
  const auto quantile_us = [&sorted](double quantile) {
    const auto rank = static_cast<size_t>(std::ceil(quantile * static_cast<double>(sorted.size())));
    return static_cast<double>(sorted[std::max<size_t>(rank, 1) - 1]) / 1e3;
  };
  fmt::print(
      "{{\"elapsed_seconds\": {}, \"count\": {}, \"latency_us\": {{\"p50\": {}, \"p90\": {}, \"p99\": {}, \"p999\": "
      "{}, "
      "\"max\": {}}}, \"congestion_control\": \"{}\", \"cpu_seconds\": {}}}\n",
      result.elapsed_seconds, sorted.size(), quantile_us(0.5), quantile_us(0.9), quantile_us(0.99), quantile_us(0.999),
      quantile_us(1), result.congestion_control, CpuSeconds());
  return 0;
}

int Main(std::span<char*> arguments) {
  if (arguments.size() < 2) throw UsageError("expected target, bulk or requests");
  const std::string_view verb = arguments[1];
  const Arguments rest(arguments.subspan(2));
  if (verb == "target") return Target(rest);
  if (verb == "bulk") return Bulk(rest);
  if (verb == "requests") return Requests(rest);
  throw UsageError(fmt::format("unknown verb '{}': expected target, bulk or requests", verb));
}

}  // namespace
}  // namespace tunnel::bench

int main(int argc, char** argv) {
  try {
    return tunnel::bench::Main({argv, static_cast<size_t>(argc)});
  } catch (const tunnel::bench::UsageError& error) {
    fmt::print(stderr, "load_generator: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_generator: {}\n", error.what());
    return 1;
  }
}
