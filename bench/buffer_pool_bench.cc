// Blocks from the pool beside malloc, taken and returned in the order sockets do it. The label says whether
// the bytes written into the blocks were still there at the end.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#include "core/buffer_pool.h"

namespace {

using namespace tunnel::core;

struct Freer {
  void operator()(uint8_t* block) const { std::free(block); }
};
using Block = std::unique_ptr<uint8_t, Freer>;

struct FromPool {
  using Held = Slice;
  Slice Take(size_t size) { return pool.Allocate(size); }
  static uint8_t* Data(const Slice& slice) { return slice.data(); }
  BufferPool pool;
};

struct FromMalloc {
  using Held = Block;
  Block Take(size_t size) { return Block(static_cast<uint8_t*>(std::malloc(size))); }
  static uint8_t* Data(const Block& block) { return block.get(); }
};

// Queues of `depth` blocks: the oldest goes when a new one comes, as in a send queue. First and last byte are touched.
template <typename Source>
void Queue(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  const auto depth = static_cast<size_t>(state.range(1));
  Source source;
  std::deque<typename Source::Held> queue;
  uint64_t sum = 0;
  uint64_t rounds = 0;
  for (auto _ : state) {
    queue.push_back(source.Take(size));
    uint8_t* data = Source::Data(queue.back());
    data[0] = static_cast<uint8_t>(rounds);
    data[size - 1] = static_cast<uint8_t>(rounds);
    if (queue.size() > depth) {
      const uint8_t* oldest = Source::Data(queue.front());
      sum += (oldest[0] == oldest[size - 1]) ? 1 : 0;
      queue.pop_front();
    }
    ++rounds;
  }
  queue.clear();
  const uint64_t taken_out = rounds > depth ? rounds - depth : 0;
  state.SetLabel(sum == taken_out ? "bytes right" : "BYTES WRONG");
}
BENCHMARK_TEMPLATE(Queue, FromPool)->ArgsProduct({{2048, 16384, 65536}, {1, 64}});
BENCHMARK_TEMPLATE(Queue, FromMalloc)->ArgsProduct({{2048, 16384, 65536}, {1, 64}});

// Splitting a received block into messages, each a reference to a part of it.
void ShareParts(benchmark::State& state) {
  BufferPool pool;
  const Slice block = pool.Allocate(65536);
  size_t at = 0;
  uint64_t bytes = 0;
  for (auto _ : state) {
    const Slice part = block.Share(at, 100);
    bytes += part.size();
    at = (at + 100) % 60000;
  }
  state.SetLabel(bytes % 100 == 0 ? "bytes right" : "BYTES WRONG");
}
BENCHMARK(ShareParts);

}  // namespace

BENCHMARK_MAIN();
