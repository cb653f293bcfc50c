#include "net/byte_reader.h"

#include <utility>

namespace tunnel::net {

using core::Slice;

ByteReader::ByteReader(ByteStream& stream) : stream_(&stream) { stream.SetHandler(this); }

ByteReader::~ByteReader() { Detach(); }

void ByteReader::Detach() {
  if (stream_ == nullptr) return;
  if (dead_.ok()) stream_->SetHandler(nullptr);
  stream_ = nullptr;
}

core::Task<absl::StatusOr<Slice>> ByteReader::Read() {
  while (received_.empty()) {
    if (!dead_.ok()) co_return dead_;
    if (ended_) co_return Slice();
    changed_.Reset();
    if (stream_ != nullptr) stream_->ResumeReceive();
    const absl::Status waited = co_await changed_.Wait();
    if (!waited.ok()) co_return waited;
  }
  Slice data = std::move(received_.front());
  received_.pop_front();
  co_return std::move(data);
}

void ByteReader::Unread(Slice data) {
  if (!data.empty()) received_.push_front(std::move(data));
}

core::Task<absl::Status> ByteReader::Drained() {
  while (dead_.ok() && !stream_->writable()) {
    changed_.Reset();
    const absl::Status waited = co_await changed_.Wait();
    if (!waited.ok()) co_return waited;
  }
  co_return dead_;
}

std::deque<Slice> ByteReader::TakeReceived() { return std::exchange(received_, {}); }

void ByteReader::OnData(Slice data) {
  received_.push_back(std::move(data));
  stream_->PauseReceive();
  changed_.Set();
}

void ByteReader::OnEnd() {
  ended_ = true;
  changed_.Set();
}

void ByteReader::OnDrained() { changed_.Set(); }

void ByteReader::OnDead(absl::Status reason) {
  // A stream without a half-close ends in order by this alone.
  if (reason.ok()) ended_ = true;
  dead_ = std::move(reason);
  changed_.Set();
}

}  // namespace tunnel::net
