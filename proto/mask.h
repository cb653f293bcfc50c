// The WebSocket mask: payload byte i is XORed with key byte i mod 4 (RFC 6455 section 5.3). Masking twice restores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tunnel::proto {

using MaskKey = std::array<uint8_t, 4>;

// Masks or unmasks `data` in place. `offset` is the index of data[0] within its frame's payload, so a payload may be
// done in pieces. Any alignment, any size. Safe on any thread.
void ApplyMask(std::span<uint8_t> data, const MaskKey& key, size_t offset);

// Writes the masked `src` to dst[0, src.size()) in one pass; `dst` must have that room and must not overlap `src`
// (except by being the same address). `offset` as above.
void CopyMasked(uint8_t* dst, std::span<const uint8_t> src, const MaskKey& key, size_t offset);

// One implementation of the mask. `apply` has CopyMasked's contract, for a key already rotated to src[0].
struct MaskKernel {
  std::string_view name;
  void (*apply)(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key);
};

// The implementations this processor can run, slowest first; the functions above use the last. For tests and
// benchmarks.
std::span<const MaskKernel> MaskKernels();

// The key as a kernel takes it: its bytes in memory order, beginning with the one for payload index `offset`.
uint32_t RotatedMaskKey(const MaskKey& key, size_t offset);

}  // namespace tunnel::proto
