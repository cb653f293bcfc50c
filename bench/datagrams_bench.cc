// Datagrams between two sockets of one reactor over loopback, in bursts of one turn, with what the kernel can do for
// them and without. Both ends and the kernel's way between them run on this thread, so a rate is that of a core's time,
// whatever else the machine does. The label says whether each arrived with the bytes it was sent with.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/datagram_socket.h"
#include "core/reactor.h"

namespace {

using namespace tunnel::core;

// As many as a turn hands over at once.
constexpr size_t kBurst = 64;

class CountingInbox final : public DatagramSocket::Handler {
 public:
  void OnDatagram(const SocketAddress& from, Slice data) override {
    (void)from;
    ++datagrams;
    sum += data.size();
    if (!data.empty()) sum += data.data()[0] + data.data()[data.size() - 1];
  }
  void OnSocketError(IoError error) override {
    (void)error;
    failed = true;
  }

  uint64_t datagrams = 0;
  uint64_t sum = 0;
  bool failed = false;
};

void Bursts(benchmark::State& state, BackendChoice backend, const std::vector<std::string>& disabled) {
  const auto size = static_cast<size_t>(state.range(0));
  std::string note;
  auto reactor = Reactor::Create({.backend = backend, .backend_options = {.disabled_features = disabled}}, 0, note);
  if (!reactor.ok()) {
    state.SkipWithError("this kernel refuses the backend");
    return;
  }
  Reactor& core = **reactor;
  CountingInbox inbox;
  uint64_t expected = 0;
  uint64_t sum = 0;
  {
    const SocketAddress loopback = SocketAddress::V4({127, 0, 0, 1}, 0);
    auto from = DatagramSocket::Open(core, loopback);
    auto to = DatagramSocket::Open(core, loopback);
    if (!from.ok() || !to.ok()) {
      state.SkipWithError("no socket");
      return;
    }
    to->Start(inbox);
    const SocketAddress address = to->local_address();
    Slice payload = core.buffers().Allocate(size);
    payload.Truncate(size);
    for (size_t i = 0; i < size; ++i) payload.data()[i] = static_cast<uint8_t>(i);
    for (auto _ : state) {
      for (size_t i = 0; i < kBurst; ++i) {
        from->SendTo(address, payload.Share());
        sum += size + payload.data()[0] + payload.data()[size - 1];
      }
      expected += kBurst;
      while (inbox.datagrams < expected && !inbox.failed) {
        core.Turn(core.backend().Now() + std::chrono::milliseconds(100));
      }
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(inbox.datagrams));
  state.SetBytesProcessed(static_cast<int64_t>(inbox.datagrams * size));
  state.SetLabel(inbox.sum == sum && !inbox.failed ? "bytes right" : "BYTES WRONG");
}

const bool registered = [] {
  for (const auto& [name, backend] : {std::pair("io_uring", BackendChoice::kUring), {"epoll", BackendChoice::kEpoll}}) {
    for (const auto& [what, disabled] : std::vector<std::pair<std::string, std::vector<std::string>>>{
             {"plain", {"udp-gso", "udp-gro"}}, {"gso", {"udp-gro"}}, {"gro", {"udp-gso"}}, {"gso+gro", {}}}) {
      benchmark::RegisterBenchmark(
          (std::string(name) + "/" + what).c_str(),
          [choice = backend, off = disabled](benchmark::State& state) { Bursts(state, choice, off); })
          ->Arg(100)
          ->Arg(1200);
    }
  }
  return true;
}();

}  // namespace

BENCHMARK_MAIN();
