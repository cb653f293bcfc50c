#include "core/uring_receive_ring.h"

#include <cstring>

#include "core/uring_buffers.h"

namespace tunnel::core {

UringReceiveRing::UringReceiveRing(uint16_t group, unsigned buffers, size_t buffer_bytes)
    : group_(group), size_(buffers), buffer_bytes_(buffer_bytes), buffers_(std::make_unique<Buffer[]>(buffers)) {}

UringReceiveRing::~UringReceiveRing() {
  TUNNEL_CHECK(lent_ == 0);
  if (memory_ != MAP_FAILED) munmap(memory_, memory_bytes());
  if (entries_ != MAP_FAILED) munmap(entries_, entries_bytes());
}

absl::Status UringReceiveRing::Register(io_uring& ring) {
  memory_ = mmap(nullptr, memory_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  entries_ = mmap(nullptr, entries_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED || entries_ == MAP_FAILED) return ResourceExhausted("mmap of receive buffers");
  ring_ = static_cast<io_uring_buf_ring*>(entries_);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(ring_);
  registration.ring_entries = size_;
  registration.bgid = group_;
  if (const int result = io_uring_register_buf_ring(&ring, &registration, 0); result != 0) {
    return Unavailable("io_uring provided-buffer ring: {}", std::strerror(-result));
  }
  io_uring_buf_ring_init(ring_);
  for (unsigned i = 0; i < size_; ++i) {
    Buffer& buffer = buffers_[i];
    buffer.data = static_cast<uint8_t*>(memory_) + i * buffer_bytes_;
    buffer.capacity = buffer_bytes_;
    buffer.id = i;
    buffer.owner = this;
    Give(buffer);
  }
  return absl::OkStatus();
}

Slice UringReceiveRing::Take(uint32_t id, size_t bytes) {
  TUNNEL_CHECK(id < size_ && buffers_[id].references == 0 && bytes <= buffer_bytes_);
  ++lent_;
  return {buffers_[id], buffers_[id].data, bytes};
}

void UringReceiveRing::Recycle(Buffer& buffer) {
  --lent_;
  Give(buffer);
}

void UringReceiveRing::Give(Buffer& buffer) {
  ProvideBuffer(*ring_, size_, buffer.data, buffer_bytes_, static_cast<uint16_t>(buffer.id));
}

}  // namespace tunnel::core
