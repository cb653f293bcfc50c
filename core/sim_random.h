// The simulation's source of randomness: small, fast, and the same on every machine and with every library.
#pragma once

#include <cstdint>
#include <span>

namespace tunnel::core {

// SplitMix64. Not for secrets: who knows the seed knows all of it, which is the point.
class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, limit), as good as even; 0 when there is nothing to choose from.
  uint64_t Below(uint64_t limit) { return limit == 0 ? 0 : Next() % limit; }
  // In [low, high].
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }
  bool Chance(uint32_t per_million) { return per_million != 0 && Next() % 1'000'000 < per_million; }
  void Fill(std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size();) {
      uint64_t value = Next();
      for (size_t k = 0; k < sizeof(value) && i < out.size(); ++k, ++i, value >>= 8)
        out[i] = static_cast<uint8_t>(value);
    }
  }
  // An independent sequence, so that what one part draws does not change what another gets.
  SimRandom Fork() { return SimRandom(Next()); }

 private:
  uint64_t state_;
};

}  // namespace tunnel::core
