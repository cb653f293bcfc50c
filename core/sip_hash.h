// SipHash: a keyed hash whose values cannot be foreseen without the key, so that nobody who chooses what is hashed can
// make it collide. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), and the authors' reference
// code for 128 bits.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

namespace tunnel::core {

struct SipHashKey {
  uint64_t low = 0;   // bytes 0 to 7, little-endian
  uint64_t high = 0;  // bytes 8 to 15
};

// SipHash-1-3 of 24 bytes, given as three little-endian words: for a place in a table, where a value is never shown.
[[nodiscard]] uint64_t SipHash13(const SipHashKey& key, const std::array<uint64_t, 3>& words);

// SipHash-2-4 with 128 bits of output, as low and high little-endian word: wide enough to stand for the bytes.
struct SipHash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const SipHash128&, const SipHash128&) = default;
};
[[nodiscard]] SipHash128 SipHash24Wide(const SipHashKey& key, std::span<const uint8_t> bytes);

namespace sip_hash_internal {

struct State {
  explicit State(const SipHashKey& key)
      : v0(key.low ^ 0x736f6d6570736575U),
        v1(key.high ^ 0x646f72616e646f6dU),
        v2(key.low ^ 0x6c7967656e657261U),
        v3(key.high ^ 0x7465646279746573U) {}

  void Round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  template <int kRounds>
  void Compress(uint64_t word) {
    v3 ^= word;
    for (int i = 0; i < kRounds; ++i) Round();
    v0 ^= word;
  }
  template <int kRounds>
  [[nodiscard]] uint64_t Finish() {
    for (int i = 0; i < kRounds; ++i) Round();
    return v0 ^ v1 ^ v2 ^ v3;
  }

  uint64_t v0;
  uint64_t v1;
  uint64_t v2;
  uint64_t v3;
};

}  // namespace sip_hash_internal

inline uint64_t SipHash13(const SipHashKey& key, const std::array<uint64_t, 3>& words) {
  sip_hash_internal::State state(key);
  for (const uint64_t word : words) state.Compress<1>(word);
  state.Compress<1>(uint64_t{24} << 56);  // the length, in the last byte of the last word
  state.v2 ^= 0xff;
  return state.Finish<3>();
}

}  // namespace tunnel::core
