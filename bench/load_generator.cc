// Both ends of a measurement through a tunnel, for bench/run: prints one JSON object and ends with 0, or says on
// standard error what went wrong and ends with 1; 2 for a mistake on the command line.
//
//   load_generator target   [--host ADDRESS] [--port N]
//   load_generator bulk     [--host ADDRESS] --port N --direction up|down [--streams N] [--seconds S]
//   load_generator requests [--host ADDRESS] --port N [--socks-target N [--optimistic]] [--workers N] [--size BYTES]
//                           [--reuse] [--interval-us N] [--stalled N] [--seconds S]
//
// ADDRESS is IPv4, and 127.0.0.1 unless given.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bench/arguments.h"
#include "bench/load/bulk.h"
#include "bench/load/requests.h"
#include "bench/load/target.h"
#include "bench/load/wire.h"

namespace tunnel::bench {
namespace {

constexpr uint32_t kStreamLimit = 10'000;

// User and system time of this process so far.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Whether the argument is one of an endpoint's; then it is taken.
bool TakeEndpoint(Arguments& arguments, Endpoint& endpoint) {
  if (arguments.name() == "--port") {
    endpoint.port = arguments.Port();
  } else if (arguments.name() == "--host") {
    const auto address = ParseAddress(std::string(arguments.Text()));
    if (!address) throw UsageError("--host: not an IPv4 address");
    endpoint.address = *address;
  } else {
    return false;
  }
  return true;
}

int Target(Arguments arguments) {
  Endpoint at;
  while (arguments.Next()) {
    if (!TakeEndpoint(arguments, at)) arguments.Unknown();
  }
  return RunTarget(at);
}

int Bulk(Arguments arguments) {
  BulkOptions options;
  while (arguments.Next()) {
    const std::string_view name = arguments.name();
    if (TakeEndpoint(arguments, options.to)) continue;
    if (name == "--direction") {
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

// As JSON, in microseconds. There must be one.
std::string Quantiles(std::vector<int64_t> nanoseconds) {
  std::ranges::sort(nanoseconds);
  const auto at = [&nanoseconds](double quantile) {
    const auto rank = static_cast<size_t>(std::ceil(quantile * static_cast<double>(nanoseconds.size())));
    return static_cast<double>(nanoseconds[std::max<size_t>(rank, 1) - 1]) / 1e3;
  };
  return fmt::format(R"({{"p50": {}, "p90": {}, "p99": {}, "p999": {}, "max": {}}})", at(0.5), at(0.9), at(0.99),
                     at(0.999), at(1));
}

int Requests(Arguments arguments) {
  RequestOptions options;
  while (arguments.Next()) {
    const std::string_view name = arguments.name();
    if (TakeEndpoint(arguments, options.to)) continue;
    if (name == "--socks-target") {
      options.socks_target_port = arguments.Port();
    } else if (name == "--optimistic") {
      options.optimistic = true;
    } else if (name == "--stalled") {
      options.stalled = arguments.Within<uint32_t>(0, kStreamLimit);
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
  if (options.optimistic && (options.socks_target_port == 0 || options.reuse)) {
    throw UsageError("--optimistic is of --socks-target and without --reuse");
  }
  const RequestResult result = RunRequests(options);
  if (result.latencies_ns.empty()) throw std::runtime_error("no request was made");
  std::string of_proxy;
  if (!result.replies_ns.empty()) {
    of_proxy =
        fmt::format("\"reply_us\": {}, \"open_us\": {}, ", Quantiles(result.replies_ns), Quantiles(result.opens_ns));
  }
  fmt::print(
      "{{\"elapsed_seconds\": {}, \"count\": {}, \"latency_us\": {}, {}\"congestion_control\": \"{}\", "
      "\"cpu_seconds\": {}}}\n",
      result.elapsed_seconds, result.latencies_ns.size(), Quantiles(result.latencies_ns), of_proxy,
      result.congestion_control, CpuSeconds());
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
