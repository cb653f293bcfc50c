// The mailbox between two cores beside a queue under a mutex. The label says whether the sum of what arrived is right:
// a message lost or doubled would change it.
#include <absl/functional/any_invocable.h>
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "core/limits.h"
#include "core/mailbox.h"

namespace {

using namespace tunnel::core;
using Message = absl::AnyInvocable<void()>;

class LockedQueue {
 public:
  bool Push(Message& message) {
    const std::lock_guard lock(mutex_);
    if (queue_.size() == kMailboxMessages) return false;
    queue_.push_back(std::move(message));
    return true;
  }
  bool Pop(Message& message) {
    const std::lock_guard lock(mutex_);
    if (queue_.empty()) return false;
    message = std::move(queue_.front());
    queue_.pop_front();
    return true;
  }

 private:
  std::mutex mutex_;
  std::deque<Message> queue_;
};

// Push and pop on one core: what the instructions cost.
template <typename Box>
void OneCore(benchmark::State& state) {
  Box box;
  uint64_t sum = 0;
  uint64_t sent = 0;
  Message received;
  for (auto _ : state) {
    Message message = [&sum, sent] { sum += sent; };
    ++sent;
    (void)box.Push(message);
    (void)box.Pop(received);
    received();
  }
  state.SetLabel(sum == sent * (sent - 1) / 2 ? "sum right" : "SUM WRONG");
}
BENCHMARK_TEMPLATE(OneCore, Mailbox<Message, kMailboxMessages>);
BENCHMARK_TEMPLATE(OneCore, LockedQueue);

// A thousand messages from one core to another, which runs them.
template <typename Box>
void AcrossCores(benchmark::State& state) {
  constexpr uint64_t kBatch = 1000;
  Box box;
  uint64_t sum = 0;  // the consumer's own, and read when it has ended
  std::atomic<uint64_t> done{0};
  std::atomic<bool> over{false};
  std::thread consumer([&] {
    Message message;
    uint64_t count = 0;
    while (!over.load(std::memory_order_acquire)) {
      while (box.Pop(message)) {
        message();
        if (++count % kBatch == 0) done.store(count, std::memory_order_release);
      }
      std::this_thread::yield();
    }
  });
  uint64_t sent = 0;
  for (auto _ : state) {
    for (uint64_t i = 0; i < kBatch; ++i, ++sent) {
      Message message = [&sum, sent] { sum += sent; };
      while (!box.Push(message)) std::this_thread::yield();
    }
    while (done.load(std::memory_order_acquire) != sent) std::this_thread::yield();
  }
  over.store(true, std::memory_order_release);
  consumer.join();
  state.SetItemsProcessed(static_cast<int64_t>(sent));
  state.SetLabel(sum == sent * (sent - 1) / 2 ? "sum right" : "SUM WRONG");
}
BENCHMARK_TEMPLATE(AcrossCores, Mailbox<Message, kMailboxMessages>)->UseRealTime();
BENCHMARK_TEMPLATE(AcrossCores, LockedQueue)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
