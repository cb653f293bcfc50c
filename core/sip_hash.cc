#include "core/sip_hash.h"

namespace tunnel::core {

SipHash128 SipHash24Wide(const SipHashKey& key, std::span<const uint8_t> bytes) {
  sip_hash_internal::State state(key);
  state.v1 ^= 0xee;
  uint64_t word = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    word |= uint64_t{bytes[i]} << (8 * (i % 8));
    if (i % 8 == 7) {
      state.Compress<2>(word);
      word = 0;
    }
  }
  state.Compress<2>(word | uint64_t{bytes.size() & 0xff} << 56);
  SipHash128 hash;
  state.v2 ^= 0xee;
  hash.low = state.Finish<4>();
  state.v1 ^= 0xdd;
  hash.high = state.Finish<4>();
  return hash;
}

}  // namespace tunnel::core
