// Integers in network order, to and from memory that has room for them. Compilers make each a load or store and a swap.
#pragma once

#include <cstdint>

namespace tunnel::proto {

inline uint32_t LoadBig32(const uint8_t* from) {
  return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | from[3];
}

inline uint64_t LoadBig64(const uint8_t* from) { return uint64_t{LoadBig32(from)} << 32 | LoadBig32(from + 4); }

inline void StoreBig32(uint8_t* to, uint32_t value) {
  to[0] = static_cast<uint8_t>(value >> 24);
  to[1] = static_cast<uint8_t>(value >> 16);
  to[2] = static_cast<uint8_t>(value >> 8);
  to[3] = static_cast<uint8_t>(value);
}

inline void StoreBig64(uint8_t* to, uint64_t value) {
  StoreBig32(to, static_cast<uint32_t>(value >> 32));
  StoreBig32(to + 4, static_cast<uint32_t>(value));
}

}  // namespace tunnel::proto
