#include "net/slice_queue.h"

#include <utility>

namespace tunnel::net {

void SliceQueue::Push(core::Slice data) {
  if (data.empty()) return;
  bytes_ += data.size();
  if (data.size() >= core::kCoalesceBytes) {
    slices_.push_back(pool_.ForHolding(std::move(data)));
    return;
  }
  const bool joins = head_ < slices_.size() && slices_.back().buffer()->owner == &pool_ &&
                     slices_.back().buffer()->references == 1 && slices_.back().room() >= data.size();
  if (!joins) {
    slices_.push_back(pool_.Allocate(core::kCoalesceBytes));
    slices_.back().Truncate(0);
  }
  slices_.back().Append(data.bytes());
}

void SliceQueue::PopFront() {
  slices_[head_++].Reset();
  skip_ = 0;
  ++popped_;
  if (head_ == slices_.size()) {
    slices_ = std::vector<core::Slice>();
    head_ = 0;
  } else if (head_ >= 16 && head_ * 2 >= slices_.size()) {
    slices_.erase(slices_.begin(), slices_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
}

core::Slice SliceQueue::Pop() {
  TUNNEL_CHECK(!empty());
  core::Slice front = std::move(slices_[head_]);
  front.RemovePrefix(skip_);
  bytes_ -= front.size();
  PopFront();
  return front;
}

void SliceQueue::Drop(size_t bytes) {
  TUNNEL_CHECK(bytes <= bytes_);
  bytes_ -= bytes;
  skip_ += bytes;
  // The last slice goes too when all of it was dropped, or an idle queue would hold a block.
  while (head_ < slices_.size() && skip_ >= slices_[head_].size()) {
    const size_t left = skip_ - slices_[head_].size();
    PopFront();
    skip_ = left;
  }
}

void SliceQueue::Clear() {
  popped_ += slices_.size() - head_;
  slices_ = std::vector<core::Slice>();
  head_ = 0;
  skip_ = 0;
  bytes_ = 0;
}

const core::Slice* SliceQueue::Find(size_t number) const {
  const size_t index = number - popped_ + head_;
  return index < slices_.size() ? &slices_[index] : nullptr;
}

SliceQueue::Cursor SliceQueue::At(size_t offset) const {
  TUNNEL_CHECK(offset <= bytes_);
  Cursor at;
  at.slice_ = popped_;
  at.offset_ = offset + skip_;
  for (const core::Slice* slice = Find(at.slice_); slice != nullptr && at.offset_ > slice->size();
       slice = Find(at.slice_)) {
    at.offset_ -= slice->size();
    ++at.slice_;
  }
  return at;
}

std::span<const uint8_t> SliceQueue::Peek(Cursor& at) const {
  // Everything before the cursor may have been dropped, its own slice included.
  if (at.slice_ < popped_) at = {popped_, skip_};
  const core::Slice* slice = Find(at.slice_);
  // At the end of a slice that may still grow, a cursor stays; it moves on once there is another behind it.
  while (slice != nullptr && at.offset_ == slice->size() && Find(at.slice_ + 1) != nullptr) {
    at.offset_ = 0;
    slice = Find(++at.slice_);
  }
  return slice == nullptr ? std::span<const uint8_t>() : std::span<const uint8_t>(slice->bytes()).subspan(at.offset_);
}

}  // namespace tunnel::net
