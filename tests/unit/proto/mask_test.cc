#include "proto/mask.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

constexpr MaskKey kKey = {0x12, 0xA5, 0x00, 0xFF};
constexpr size_t kMaxSize = 300;

std::vector<uint8_t> Sample(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 37 + 11);
  return bytes;
}

std::vector<uint8_t> ByteLoop(std::span<const uint8_t> data, size_t offset) {
  std::vector<uint8_t> out(data.begin(), data.end());
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(out[i] ^ kKey[(offset + i) % 4]);
  return out;
}

// Every size, phase and alignment, in place, with canaries on both sides.
template <typename F>
void SweepInPlace(F&& apply) {
  const auto sample = Sample(kMaxSize);
  alignas(64) std::array<uint8_t, kMaxSize + 32> memory;
  for (size_t size = 0; size <= kMaxSize; ++size) {
    for (size_t offset = 0; offset < 4; ++offset) {
      const auto expected = ByteLoop(std::span(sample).first(size), offset);
      for (size_t alignment = 0; alignment < 8; ++alignment) {
        memory.fill(0xC3);
        const auto data = std::span(memory).subspan(8 + alignment, size);
        std::copy_n(sample.begin(), size, data.begin());
        apply(data, offset);
        ASSERT_TRUE(std::ranges::equal(data, expected)) << size << " " << offset << " " << alignment;
        ASSERT_TRUE(std::all_of(memory.data(), data.data(), [](uint8_t b) { return b == 0xC3; }));
        ASSERT_TRUE(
            std::all_of(data.data() + size, memory.data() + memory.size(), [](uint8_t b) { return b == 0xC3; }));
      }
    }
  }
}

TEST(Mask, ApplyMatchesByteLoop) {
  SweepInPlace([](std::span<uint8_t> data, size_t offset) { ApplyMask(data, kKey, offset); });
}

TEST(Mask, EveryKernelMatchesByteLoop) {
  ASSERT_FALSE(MaskKernels().empty());
  for (const MaskKernel& kernel : MaskKernels()) {
    SCOPED_TRACE(kernel.name);
    SweepInPlace([&](std::span<uint8_t> data, size_t offset) {
      kernel.apply(data.data(), data.data(), data.size(), RotatedMaskKey(kKey, offset));
    });
  }
}

TEST(Mask, CopyMatchesByteLoop) {
  const auto sample = Sample(kMaxSize);
  std::array<uint8_t, kMaxSize + 16> memory;
  for (size_t size = 0; size <= kMaxSize; ++size) {
    for (size_t offset = 0; offset < 4; ++offset) {
      const auto source = std::span(sample).first(size);
      memory.fill(0xC3);
      CopyMasked(memory.data() + 5, source, kKey, offset);
      ASSERT_TRUE(std::ranges::equal(std::span(memory).subspan(5, size), ByteLoop(source, offset)));
      ASSERT_EQ(memory[4], 0xC3);
      ASSERT_EQ(memory[5 + size], 0xC3);
    }
  }
}

TEST(Mask, TouchesNothingPastTheEnd) {
  GuardedInput source_memory;
  GuardedInput target_memory;
  const auto sample = Sample(kMaxSize);
  for (const MaskKernel& kernel : MaskKernels()) {
    for (size_t size = 0; size <= kMaxSize; ++size) {
      const auto source = source_memory.Place(std::span(sample).first(size));
      const auto target = target_memory.Place(std::span(sample).first(size));
      kernel.apply(target.data(), source.data(), size, RotatedMaskKey(kKey, 0));
      ASSERT_TRUE(std::ranges::equal(target, ByteLoop(source, 0))) << kernel.name << " " << size;
    }
  }
}

TEST(Mask, OffsetWrapsAndPiecesAgree) {
  const auto sample = Sample(1000);
  auto whole = sample;
  ApplyMask(whole, kKey, 0);
  auto pieces = sample;
  for (size_t at = 0, step = 1; at < pieces.size(); at += step, ++step) {
    ApplyMask(std::span(pieces).subspan(at, std::min(step, pieces.size() - at)), kKey, at);
  }
  EXPECT_EQ(whole, pieces);
  auto far = sample;
  ApplyMask(far, kKey, SIZE_MAX - 3);  // a multiple of 4
  EXPECT_EQ(far, whole);
  ApplyMask(whole, kKey, 0);
  EXPECT_EQ(whole, sample);
}

}  // namespace
}  // namespace tunnel::proto
