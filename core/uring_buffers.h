// Giving a buffer to a ring of provided buffers.
#pragma once

#include <liburing.h>

#include <cstdint>

namespace tunnel::core {

// Puts a buffer behind the ring's tail and publishes it. liburing's io_uring_buf_ring_add() says the same through an
// array declared with no elements, which compilers that check bounds refuse.
inline void ProvideBuffer(io_uring_buf_ring& ring, unsigned entries, uint8_t* data, size_t size, uint16_t id) {
  io_uring_buf* const first = reinterpret_cast<io_uring_buf*>(&ring);
  io_uring_buf& entry = first[ring.tail & (entries - 1)];
  entry.addr = reinterpret_cast<uint64_t>(data);
  entry.len = static_cast<uint32_t>(size);
  entry.bid = id;  // the rest of the first entry is the tail itself and stays
  io_uring_buf_ring_advance(&ring, 1);
}

}  // namespace tunnel::core
