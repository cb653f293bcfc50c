// The WebSocket mask beside the byte loop one would write first and beside memcpy, the floor of touching the bytes
// once. The label begins with a checksum of the masked bytes: the same for every implementation of a size.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "proto/mask.h"

namespace {

using namespace tunnel::proto;

constexpr MaskKey kKey = {0x37, 0xFA, 0x21, 0x3D};

std::vector<uint8_t> Sample(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 8));
  return bytes;
}

std::string Checksum(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  return fmt::format("{:016x}", hash);
}

void ByteLoop(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key) {
  uint8_t bytes[4];
  std::memcpy(bytes, &key, sizeof(bytes));
  for (size_t i = 0; i < size; ++i) dst[i] = static_cast<uint8_t>(src[i] ^ bytes[i % 4]);
}

void Memcpy(uint8_t* dst, const uint8_t* src, size_t size, uint32_t /*key*/) { std::memcpy(dst, src, size); }

void Finish(benchmark::State& state, const std::vector<uint8_t>& result, std::string_view name) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(result.size()));
  state.SetLabel(fmt::format("{} {}", Checksum(result), name));
}

void Copy(benchmark::State& state, const MaskKernel& kernel) {
  const auto source = Sample(static_cast<size_t>(state.range(0)));
  std::vector<uint8_t> target(source.size());
  const uint32_t key = RotatedMaskKey(kKey, 0);
  for (auto _ : state) {
    kernel.apply(target.data(), source.data(), source.size(), key);
    benchmark::ClobberMemory();
  }
  Finish(state, target, kernel.name);
}

void BM_Memcpy(benchmark::State& state) { Copy(state, {"memcpy", Memcpy}); }
void BM_ByteLoop(benchmark::State& state) { Copy(state, {"byte loop", ByteLoop}); }
void BM_CopyKernel(benchmark::State& state) { Copy(state, MaskKernels()[static_cast<size_t>(state.range(1))]); }

void BM_ApplyMask(benchmark::State& state) {
  auto bytes = Sample(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    ApplyMask(bytes, kKey, 0);
    benchmark::ClobberMemory();
  }
  // After an even number of rounds the mask is off again.
  if (state.iterations() % 2 == 0) ApplyMask(bytes, kKey, 0);
  Finish(state, bytes, "in place");
}

constexpr int64_t kSizes[] = {125, 1300, 16 << 10, 64 << 10};

void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t size : kSizes) bench->Arg(size);
}

void SizesAndKernels(benchmark::internal::Benchmark* bench) {
  for (int64_t kernel = 0; kernel < static_cast<int64_t>(MaskKernels().size()); ++kernel) {
    for (const int64_t size : kSizes) bench->Args({size, kernel});
  }
}

BENCHMARK(BM_Memcpy)->Apply(Sizes);
BENCHMARK(BM_ByteLoop)->Apply(Sizes);
BENCHMARK(BM_CopyKernel)->Apply(SizesAndKernels);
BENCHMARK(BM_ApplyMask)->Apply(Sizes);

}  // namespace

BENCHMARK_MAIN();
