// Two connected ByteStreams in memory, on one reactor, with the calling rules and the backpressure of real ones.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "core/reactor.h"
#include "net/byte_stream.h"

namespace tunnel::net {

class MemoryStream final : public ByteStream, core::Attention {
 public:
  static constexpr size_t kHighWaterBytes = size_t{64} * 1024;

  // Each end delivers what the other sends in pieces of at most `piece` bytes.
  static std::pair<std::unique_ptr<MemoryStream>, std::unique_ptr<MemoryStream>> Pair(core::Reactor& reactor,
                                                                                      size_t piece = SIZE_MAX) {
    std::unique_ptr<MemoryStream> a(new MemoryStream(reactor, piece));
    std::unique_ptr<MemoryStream> b(new MemoryStream(reactor, piece));
    a->peer_ = b.get();
    b->peer_ = a.get();
    return {std::move(a), std::move(b)};
  }
  ~MemoryStream() override {
    *destroyed_ = true;
    Abort();
  }

  void SetHandler(Handler* handler) override {
    handler_ = handler;
    paused_ = handler == nullptr;
    Wake();
  }
  void PauseReceive() override { paused_ = true; }
  void ResumeReceive() override {
    paused_ = false;
    Wake();
  }
  void Send(core::Slice data) override {
    if (closed_ || dead_ || data.empty() || peer_ == nullptr) return;
    for (; !data.empty(); data.RemovePrefix(std::min(piece_, data.size()))) {
      peer_->incoming_.push_back(data.Share(0, std::min(piece_, data.size())));
      peer_->incoming_bytes_ += peer_->incoming_.back().size();
    }
    if (!writable()) was_full_ = true;
    peer_->Wake();
  }
  [[nodiscard]] bool writable() const override { return queued_bytes() < kHighWaterBytes; }
  [[nodiscard]] size_t queued_bytes() const override { return peer_ == nullptr ? 0 : peer_->incoming_bytes_; }
  void FinishSend() override {
    if (peer_ == nullptr || closed_) return;
    peer_->end_pending_ = true;
    peer_->Wake();
  }
  void CloseAfterSend(core::Duration /*limit*/) override {
    FinishSend();
    Leave();
  }
  void Abort() override {
    if (peer_ != nullptr && !closed_) {
      peer_->dead_ = true;
      peer_->Wake();
    }
    Leave();
  }
  [[nodiscard]] std::string peer() const override { return "memory"; }

  // From now on only so many pieces are delivered to this end, and as many more with each further call.
  void Meter(size_t pieces) {
    allowed_ = (allowed_ == SIZE_MAX ? 0 : allowed_) + pieces;
    Wake();
  }
  // The connection dies under both ends; what is on its way is lost.
  void Cut() {
    for (MemoryStream* end : {this, peer_}) {
      if (end == nullptr) continue;
      end->incoming_.clear();
      end->incoming_bytes_ = 0;
      end->dead_ = true;
      end->Wake();
    }
  }

 private:
  MemoryStream(core::Reactor& reactor, size_t piece) : reactor_(reactor), piece_(piece) {}

  void Leave() {
    closed_ = true;
    handler_ = nullptr;
    incoming_.clear();
    if (peer_ != nullptr) std::exchange(peer_, nullptr)->peer_ = nullptr;
  }
  void Wake() {
    if (handler_ != nullptr) reactor_.ScheduleAttention(*this);
  }
  void Attend() override {
    const std::shared_ptr<bool> held = destroyed_;
    const bool& destroyed = *held;
    while (!destroyed && handler_ != nullptr && !dead_ && !paused_ && !incoming_.empty() && allowed_ > 0) {
      if (allowed_ != SIZE_MAX) --allowed_;
      core::Slice data = std::move(incoming_.front());
      incoming_.pop_front();
      incoming_bytes_ -= data.size();
      if (peer_ != nullptr) peer_->Wake();
      handler_->OnData(std::move(data));
    }
    if (!destroyed && handler_ != nullptr && !dead_ && incoming_.empty() && end_pending_ && !end_told_) {
      end_told_ = true;
      handler_->OnEnd();
    }
    if (!destroyed && handler_ != nullptr && !dead_ && was_full_ && writable()) {
      was_full_ = false;
      handler_->OnDrained();
    }
    if (!destroyed && handler_ != nullptr && dead_) {
      std::exchange(handler_, nullptr)->OnDead(Unavailable("connection reset"));
    }
  }

  core::Reactor& reactor_;
  const size_t piece_;
  MemoryStream* peer_ = nullptr;
  Handler* handler_ = nullptr;
  std::deque<core::Slice> incoming_;
  size_t incoming_bytes_ = 0;
  size_t allowed_ = SIZE_MAX;  // pieces that may be delivered
  bool paused_ = false;
  bool end_pending_ = false;
  bool end_told_ = false;
  bool was_full_ = false;
  bool closed_ = false;
  bool dead_ = false;
  const std::shared_ptr<bool> destroyed_ = std::make_shared<bool>(false);
};

}  // namespace tunnel::net
