#include "proto/mask.h"

#include <bit>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tunnel::proto {
namespace {

// Below this the call through a pointer and the vector set-up cost more than the words they save.
constexpr size_t kSmallBytes = 16;

uint64_t Load64(const uint8_t* from) {
  uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// Every step but the last is a multiple of 4 bytes, so one key serves all of them without rotating.
void MaskWords(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key) {
  const uint64_t wide = (static_cast<uint64_t>(key) << 32) | key;
  while (size >= 8) {
    const uint64_t word = Load64(src) ^ wide;
    std::memcpy(dst, &word, sizeof(word));
    dst += 8, src += 8, size -= 8;
  }
  if (size >= 4) {
    uint32_t word;
    std::memcpy(&word, src, sizeof(word));
    word ^= key;
    std::memcpy(dst, &word, sizeof(word));
    dst += 4, src += 4, size -= 4;
  }
  const auto bytes = std::bit_cast<MaskKey>(key);
  for (size_t i = 0; i < size; ++i) dst[i] = static_cast<uint8_t>(src[i] ^ bytes[i]);
}

#if defined(__x86_64__)
// SSE2 is part of x86-64.
void MaskSse2(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key) {
  const __m128i wide = _mm_set1_epi32(static_cast<int>(key));
  const auto step = [&](size_t at) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + at));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + at), _mm_xor_si128(block, wide));
  };
  while (size >= 64) {
    step(0), step(16), step(32), step(48);
    dst += 64, src += 64, size -= 64;
  }
  while (size >= 16) {
    step(0);
    dst += 16, src += 16, size -= 16;
  }
  MaskWords(dst, src, size, key);
}

// No lambda in the two below: a lambda's body does not inherit the target of the function around it.
__attribute__((target("avx2"))) void MaskAvx2(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key) {
  const __m256i wide = _mm256_set1_epi32(static_cast<int>(key));
  while (size >= 128) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 32));
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 64));
    const __m256i d = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 96));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_xor_si256(a, wide));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 32), _mm256_xor_si256(b, wide));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 64), _mm256_xor_si256(c, wide));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 96), _mm256_xor_si256(d, wide));
    dst += 128, src += 128, size -= 128;
  }
  while (size >= 32) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_xor_si256(block, wide));
    dst += 32, src += 32, size -= 32;
  }
  if (size >= 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), _mm_xor_si128(block, _mm256_castsi256_si128(wide)));
    dst += 16, src += 16, size -= 16;
  }
  MaskWords(dst, src, size, key);
}

__attribute__((target("avx512f,avx512bw"))) void MaskAvx512(uint8_t* dst, const uint8_t* src, size_t size,
                                                            uint32_t key) {
  const __m512i wide = _mm512_set1_epi32(static_cast<int>(key));
  while (size >= 256) {
    const __m512i a = _mm512_loadu_si512(src);
    const __m512i b = _mm512_loadu_si512(src + 64);
    const __m512i c = _mm512_loadu_si512(src + 128);
    const __m512i d = _mm512_loadu_si512(src + 192);
    _mm512_storeu_si512(dst, _mm512_xor_si512(a, wide));
    _mm512_storeu_si512(dst + 64, _mm512_xor_si512(b, wide));
    _mm512_storeu_si512(dst + 128, _mm512_xor_si512(c, wide));
    _mm512_storeu_si512(dst + 192, _mm512_xor_si512(d, wide));
    dst += 256, src += 256, size -= 256;
  }
  while (size >= 64) {
    _mm512_storeu_si512(dst, _mm512_xor_si512(_mm512_loadu_si512(src), wide));
    dst += 64, src += 64, size -= 64;
  }
  if (size > 0) {
    const __mmask64 lanes = (uint64_t{1} << size) - 1;
    const __m512i block = _mm512_maskz_loadu_epi8(lanes, src);
    _mm512_mask_storeu_epi8(dst, lanes, _mm512_xor_si512(block, wide));
  }
}
#endif

std::vector<MaskKernel> Probe() {
  std::vector<MaskKernel> kernels = {{"words", MaskWords}};
#if defined(__x86_64__)
  kernels.push_back({"sse2", MaskSse2});
  if (__builtin_cpu_supports("avx2")) kernels.push_back({"avx2", MaskAvx2});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    kernels.push_back({"avx512", MaskAvx512});
  }
#endif
  return kernels;
}

void Mask(uint8_t* dst, const uint8_t* src, size_t size, uint32_t key) {
  if (size < kSmallBytes) return MaskWords(dst, src, size, key);
  static const auto best = MaskKernels().back().apply;
  best(dst, src, size, key);
}

}  // namespace

std::span<const MaskKernel> MaskKernels() {
  static const std::vector<MaskKernel> kernels = Probe();
  return kernels;
}

uint32_t RotatedMaskKey(const MaskKey& key, size_t offset) {
  return std::bit_cast<uint32_t>(
      MaskKey{key[offset % 4], key[(offset + 1) % 4], key[(offset + 2) % 4], key[(offset + 3) % 4]});
}

void ApplyMask(std::span<uint8_t> data, const MaskKey& key, size_t offset) {
  Mask(data.data(), data.data(), data.size(), RotatedMaskKey(key, offset));
}

void CopyMasked(uint8_t* dst, std::span<const uint8_t> src, const MaskKey& key, size_t offset) {
  Mask(dst, src.data(), src.size(), RotatedMaskKey(key, offset));
}

}  // namespace tunnel::proto
