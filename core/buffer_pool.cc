#include "core/buffer_pool.h"

#include <cstring>
#include <new>

namespace tunnel::core {
namespace {

size_t ClassFor(size_t bytes) {
  size_t index = 0;
  while (index < BufferPool::kBlockBytes.size() && BufferPool::kBlockBytes[index] < bytes) ++index;
  TUNNEL_CHECK(index < BufferPool::kBlockBytes.size());
  return index;
}

void FreeBlock(Buffer* buffer) {
  delete[] buffer->data;
  delete buffer;
}

}  // namespace

BufferPool::~BufferPool() {
  TUNNEL_CHECK(blocks_in_use_ == 0);
  for (SizeClass& size_class : classes_) {
    while (size_class.free != nullptr) {
      Buffer* buffer = size_class.free;
      size_class.free = buffer->next_free;
      FreeBlock(buffer);
    }
  }
}

Slice BufferPool::Allocate(size_t bytes) {
  const size_t index = ClassFor(bytes);
  SizeClass& size_class = classes_[index];
  Buffer* buffer = size_class.free;
  if (buffer != nullptr) {
    size_class.free = buffer->next_free;
    kept_bytes_ -= buffer->capacity;
  } else {
    buffer = new Buffer;
    buffer->capacity = kBlockBytes[index];
    buffer->data = new uint8_t[buffer->capacity];
    buffer->id = static_cast<uint32_t>(index);
    buffer->owner = this;
  }
  ++blocks_in_use_;
  bytes_in_use_ += buffer->capacity;
  return {*buffer, buffer->data, buffer->capacity};
}

Slice BufferPool::Copy(std::span<const uint8_t> bytes) {
  Slice slice = Allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(slice.data(), bytes.data(), bytes.size());
  slice.Truncate(bytes.size());
  return slice;
}

Slice BufferPool::Copy(std::string_view text) {
  return Copy(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Slice BufferPool::ForHolding(Slice slice) {
  const Buffer* buffer = slice.buffer();
  if (buffer == nullptr) return slice;
  const bool wasteful = slice.size() < kCoalesceBytes && buffer->capacity > kBlockBytes[0];
  if ((wasteful || buffer->owner->scarce()) && slice.size() <= kMaxBlockBytes) return Copy(slice.bytes());
  return slice;
}

void BufferPool::Recycle(Buffer& buffer) {
  TUNNEL_CHECK(blocks_in_use_ > 0);
  --blocks_in_use_;
  bytes_in_use_ -= buffer.capacity;
  if (kept_bytes_ + buffer.capacity > kKeptBytes) {
    FreeBlock(&buffer);
    return;
  }
  SizeClass& size_class = classes_[buffer.id];
  buffer.next_free = size_class.free;
  size_class.free = &buffer;
  kept_bytes_ += buffer.capacity;
}

}  // namespace tunnel::core
