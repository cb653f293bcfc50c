// An emulated path between two network namespaces, for bench/run: joins two TUN devices, one in the namespace it is
// started in and one in the other, with a delay, a rate, a queue and loss in each direction. Needs CAP_NET_ADMIN.
//
//   path --far-namespace FD [--near NAME] [--far NAME] [--delay-us N] [--rate-mbit N] [--queue-bytes N]
//        [--loss P] [--seed N]
//
// --far-namespace is an open descriptor of a namespace. --delay-us is one way; --rate-mbit is of IP packets, 0 for no
// limit; --queue-bytes is one bandwidth-delay product of the round trip unless given. Prints {"ready": true} once both
// devices are there, for somebody else to configure, and the counters as JSON when SIGTERM, SIGINT or the end of its
// parent ends it. Exit status 0; 1 when it cannot go on, 2 for a mistake on the command line.
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "bench/arguments.h"
#include "bench/path/one_way.h"
#include "bench/path/tun_device.h"

namespace tunnel::bench {
namespace {

// A kernel that always has packets must not keep those that are due from being delivered.
constexpr int kReadsInARow = 32;
constexpr int64_t kSecondNs = 1'000'000'000;

volatile std::sig_atomic_t stop_requested = 0;

struct Command {
  int far_namespace = -1;
  std::string near = "near";
  std::string far = "far";
  PathOptions path;
};

Command ParsePath(Arguments arguments) {
  Command command;
  std::optional<uint64_t> queue_bytes;
  while (arguments.Next()) {
    const std::string_view name = arguments.name();
    if (name == "--far-namespace") {
      command.far_namespace = arguments.Within<int>(0, 1 << 20);
    } else if (name == "--near") {
      command.near = arguments.Text();
    } else if (name == "--far") {
      command.far = arguments.Text();
    } else if (name == "--delay-us") {
      command.path.delay_ns = arguments.Within<int64_t>(0, 10'000'000) * 1000;
    } else if (name == "--rate-mbit") {
      command.path.bytes_per_second = arguments.Within<uint64_t>(0, 40'000) * 125'000;
    } else if (name == "--queue-bytes") {
      queue_bytes = arguments.Within<uint64_t>(1, uint64_t{1} << 30);
    } else if (name == "--loss") {
      command.path.loss = arguments.Within<double>(0, 1);
    } else if (name == "--seed") {
      command.path.seed = arguments.Within<uint64_t>(0, UINT64_MAX);
    } else {
      arguments.Unknown();
    }
  }
  if (command.far_namespace < 0) throw UsageError("--far-namespace is missing");
  // A packet has to fit, whatever the product.
  const double product =
      2.0 * static_cast<double>(command.path.delay_ns) / 1e9 * static_cast<double>(command.path.bytes_per_second);
  command.path.queue_bytes =
      queue_bytes.value_or(std::max<uint64_t>(static_cast<uint64_t>(product), 2 * OneWay::kPacketLimitBytes));
  return command;
}

int64_t NowNs() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// One direction with its ends.
struct Way {
  const TunDevice& from;
  const TunDevice& to;
  OneWay path;
  uint64_t refused = 0;  // by the kernel of the receiving end
};

void Deliver(Way& way) {
  for (std::optional<int64_t> due = way.path.due_ns(); due; due = way.path.due_ns()) {
    const int64_t now = NowNs();
    if (*due > now) return;
    if (!way.to.Write(way.path.front())) ++way.refused;
    way.path.Pop(now);
  }
}

void Collect(Way& way) {
  for (int i = 0; i < kReadsInARow; ++i) {
    const std::span<uint8_t> room = way.path.room();
    const size_t bytes = way.from.Read(room);
    if (bytes == 0) return;
    const WireSize wire = WireSizeOf(room.first(bytes));
    way.path.Put(bytes, wire.segments, wire.bytes, NowNs());
  }
}

void Run(std::array<Way, 2>& ways) {
  sigset_t none;
  sigemptyset(&none);
  while (stop_requested == 0) {
    int64_t next = NowNs() + kSecondNs;
    for (Way& way : ways) {
      Deliver(way);
      next = std::min(next, way.path.due_ns().value_or(next));
    }
    const int64_t left = std::max<int64_t>(0, next - NowNs());
    const timespec timeout{.tv_sec = left / kSecondNs, .tv_nsec = left % kSecondNs};
    std::array<pollfd, 2> wait{pollfd{.fd = ways[0].from.fd(), .events = POLLIN, .revents = 0},
                               pollfd{.fd = ways[1].from.fd(), .events = POLLIN, .revents = 0}};
    const int ready = ppoll(wait.data(), wait.size(), &timeout, &none);
    if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "ppoll");
    for (size_t i = 0; ready > 0 && i < wait.size(); ++i) {
      if ((wait[i].revents & POLLIN) != 0) Collect(ways[i]);
    }
  }
}

std::string Describe(const Way& way) {
  const PathCounters& counters = way.path.counters();
  return fmt::format(
      "{{\"packets\": {}, \"segments\": {}, \"bytes\": {}, \"delivered\": {}, \"dropped_by_queue\": {}, "
      "\"dropped_by_loss\": {}, \"dropped_for_memory\": {}, \"refused\": {}, \"most_queued_bytes\": {}, "
      "\"late_us\": {{\"mean\": {:.1f}, \"max\": {:.1f}}}}}",
      counters.packets, counters.segments, counters.bytes, counters.delivered, counters.dropped_by_queue,
      counters.dropped_by_loss, counters.dropped_for_memory, way.refused, counters.most_queued_bytes,
      counters.delivered == 0 ? 0
                              : static_cast<double>(counters.late_ns) / 1e3 / static_cast<double>(counters.delivered),
      static_cast<double>(counters.latest_ns) / 1e3);
}

// The signals that end it arrive while it waits, and only then: none can fall between a look and the wait.
void PrepareSignals() {
  struct sigaction action{};
  action.sa_handler = [](int) { stop_requested = 1; };
  sigset_t ending;
  sigemptyset(&ending);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    sigaction(number, &action, nullptr);
    sigaddset(&ending, number);
  }
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_TIMERSLACK, 1UL);
}

int PathMain(Arguments arguments) {
  const Command command = ParsePath(arguments);
  PrepareSignals();
  // Segments in one piece are lost together, which is not what loss of packets means.
  const bool offload = command.path.loss == 0;
  const TunDevice near(command.near, offload);
  if (setns(command.far_namespace, CLONE_NEWNET) != 0) {
    throw std::system_error(errno, std::generic_category(), "entering the far namespace");
  }
  const TunDevice far(command.far, offload);
  PathOptions back = command.path;
  ++back.seed;
  std::array<Way, 2> ways{Way{.from = near, .to = far, .path = OneWay(command.path)},
                          Way{.from = far, .to = near, .path = OneWay(back)}};
  fmt::print("{{\"ready\": true}}\n");
  std::fflush(stdout);
  Run(ways);

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  fmt::print("{{\"out\": {}, \"back\": {}, \"cpu_seconds\": {:.2f}}}\n", Describe(ways[0]), Describe(ways[1]),
             seconds(usage.ru_utime) + seconds(usage.ru_stime));
  return 0;
}

}  // namespace
}  // namespace tunnel::bench

int main(int argc, char** argv) {
  try {
    return tunnel::bench::PathMain(
        tunnel::bench::Arguments(std::span(argv, static_cast<size_t>(argc)).subspan(argc > 0 ? 1 : 0)));
  } catch (const tunnel::bench::UsageError& error) {
    fmt::print(stderr, "path: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "path: {}\n", error.what());
    return 1;
  }
}
