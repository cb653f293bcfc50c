#include "net/legacy_carrier.h"

#include <array>
#include <vector>

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

using proto::LegacyDecoder;
using proto::LegacyHead;
using proto::LegacyType;

LegacyCarrier::LegacyCarrier(core::Reactor& reactor, WebSocket& socket, proto::Role role, Down down)
    : reactor_(reactor), socket_(socket), role_(role), down_(std::move(down)), decoder_(role) {}

LegacyCarrier::~LegacyCarrier() {
  up_ = false;
  EndStreams(Unavailable("the channel was closed"));
}

bool LegacyCarrier::SendHead(const LegacyHead& head) {
  std::array<uint8_t, proto::kMaxLegacyHeadBytes> bytes{};
  const std::optional<size_t> size = proto::EncodeLegacyHead(bytes, role_, head);
  if (!size.has_value()) return false;
  socket_.SendMessage(proto::LegacyOpcodeOf(head.type), std::span(bytes).first(*size), {});
  return true;
}

std::unique_ptr<LegacyStream> LegacyCarrier::MakeStream(const proto::ConnectionId& id) {
  if (!up_ || streams_.size() >= kStreamsPerChannel) return nullptr;
  const auto [entry, inserted] = streams_.try_emplace(id, nullptr);
  if (!inserted) return nullptr;
  auto stream = std::make_unique<LegacyStream>(*this, id);
  entry->second = stream.get();
  return stream;
}

LegacyStream* LegacyCarrier::Find(const proto::ConnectionId& id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second;
}

void LegacyCarrier::Remove(LegacyStream& stream) {
  if (current_ == &stream) current_ = nullptr;
  stream.Unlink();
  streams_.erase(stream.id());
}

void LegacyCarrier::Deliver(LegacyStream& stream, core::Slice piece) { stream.OnPayload(std::move(piece)); }

void LegacyCarrier::OnMessageBegin(proto::Opcode opcode) { decoder_.Begin(opcode); }

void LegacyCarrier::OnMessageData(core::Slice piece) {
  decoder_.Feed(piece.bytes());
  NextEvents(&piece);
}

void LegacyCarrier::OnMessageEnd() {
  decoder_.Finish();
  NextEvents(nullptr);
}

void LegacyCarrier::NextEvents(const core::Slice* piece) {
  while (up_) {
    const LegacyDecoder::Event event = decoder_.Next();
    switch (event.kind) {
      case LegacyDecoder::EventKind::kNeedMore:
        return;
      case LegacyDecoder::EventKind::kHead: {
        const LegacyHead& head = decoder_.head();
        current_ = nullptr;
        current_is_data_ = head.type == LegacyType::kData || head.type == LegacyType::kClose;
        if (!current_is_data_) {
          OnHead(head);
        } else if (current_ = Find(head.id); current_ == nullptr) {
          OnUnknownStream(head);
        } else if (head.type == LegacyType::kClose) {
          std::exchange(current_, nullptr)->OnPeerClose();
        }
        break;
      }
      case LegacyDecoder::EventKind::kPayload:
        TUNNEL_CHECK(piece != nullptr);
        if (!current_is_data_) {
          OnPayload(piece->ShareSpan(event.payload));
        } else if (current_ != nullptr) {
          current_->OnPayload(piece->ShareSpan(event.payload));
        }
        break;
      case LegacyDecoder::EventKind::kEnd:
        if (!current_is_data_) OnMessageComplete();
        break;
      case LegacyDecoder::EventKind::kMalformed:
        reactor_.counters().messages_ignored.Add();
        spdlog::debug("channel to {}: ignored a message: {}", socket_.peer(), event.reason);
        if (event.id_known) OnMalformed(decoder_.head());
        break;
    }
  }
}

void LegacyCarrier::OnWritable() {
  // Those that fill the channel again wait for the next time, behind the others.
  core::IntrusiveList<LegacyStream, LegacyCarrier> batch;
  batch.Append(waiting_);
  while (!batch.empty()) {
    if (!socket_.writable()) {
      batch.Append(waiting_);
      waiting_.Append(batch);
      return;
    }
    batch.PopFront().OnChannelWritable();
  }
}

void LegacyCarrier::OnDown(const absl::Status& reason) {
  up_ = false;
  OnChannelDown(reason);
  EndStreams(reason);
  Down down = std::exchange(down_, nullptr);
  if (down != nullptr) down(reason);
}

void LegacyCarrier::EndStreams(const absl::Status& reason) {
  // A stream that hears of its end may end others.
  for (const proto::ConnectionId& id : IdsInOrder(streams_)) {
    if (LegacyStream* stream = Find(id); stream != nullptr) stream->OnChannelDown(reason);  // leaves the table
  }
  TUNNEL_CHECK(streams_.empty());
}

LegacyStream::LegacyStream(LegacyCarrier& carrier, const proto::ConnectionId& id)
    : carrier_(&carrier),
      reactor_(carrier.reactor()),
      id_(id),
      peer_(carrier.socket().peer()),
      half_close_timer_(reactor_.timers(), [this] { OnHalfCloseTimer(); }) {
  reactor_.counters().streams_open.Add();
  reactor_.counters().streams_opened.Add();
}

LegacyStream::~LegacyStream() {
  Leave(true);
  reactor_.counters().streams_open.Add(-1);
}

void LegacyStream::Leave(bool tell_peer) {
  half_close_timer_.Cancel();
  if (carrier_ == nullptr) return;
  LegacyCarrier& carrier = *std::exchange(carrier_, nullptr);
  if (std::exchange(channel_paused_, false)) carrier.socket().ResumeReceive();
  carrier.Remove(*this);
  if (tell_peer && carrier.up()) (void)carrier.SendHead({.type = LegacyType::kClose, .id = id_});
}

bool LegacyStream::Announce() {
  return carrier_ != nullptr && carrier_->SendHead({.type = LegacyType::kConnected, .id = id_});
}

std::string LegacyStream::peer() const { return peer_; }

void LegacyStream::SetHandler(Handler* handler) {
  handler_ = handler;
  paused_ = handler == nullptr;
  if (!paused_) reactor_.ScheduleAttention(deliverer_);
}

void LegacyStream::PauseReceive() { paused_ = true; }

void LegacyStream::ResumeReceive() {
  if (!paused_ || handler_ == nullptr) return;
  paused_ = false;
  if (!parked_.empty() || over_.has_value()) reactor_.ScheduleAttention(deliverer_);
}

bool LegacyStream::writable() const { return carrier_ == nullptr || carrier_->socket().writable(); }

void LegacyStream::Send(core::Slice data) {
  if (carrier_ == nullptr || finished_) return;
  std::array<uint8_t, proto::kLegacyDataHeadBytes> head{};
  proto::EncodeLegacyDataHead(head, id_);
  WebSocket& socket = carrier_->socket();
  for (size_t at = 0; at < data.size(); at += kDataMessageBytes) {
    const size_t size = std::min(kDataMessageBytes, data.size() - at);
    socket.SendMessage(proto::LegacyOpcodeOf(LegacyType::kData), head, data.bytes().subspan(at, size));
  }
  if (!socket.writable() && !linked()) carrier_->waiting_.PushBack(*this);
}

void LegacyStream::OnChannelWritable() {
  if (handler_ != nullptr) handler_->OnDrained();
}

void LegacyStream::FinishSend() {
  if (carrier_ == nullptr || finished_) return;
  finished_ = true;
  if (carrier_->role() == proto::Role::kServer) {
    Leave(true);
    over_ = absl::OkStatus();
    reactor_.ScheduleAttention(deliverer_);
  } else {
    half_close_timer_.SetAfter(kLegacyHalfCloseLimit);
  }
}

void LegacyStream::OnHalfCloseTimer() {
  // It is the target that must be silent, not we who do not listen.
  const core::TimePoint listening = carrier_->socket().receiving_since();
  if (!parked_.empty() || listening == core::kNever || reactor_.now() - listening < kLegacyHalfCloseLimit) {
    half_close_timer_.SetAfter(kLegacyHalfCloseLimit);
    return;
  }
  Leave(true);
  over_ = absl::OkStatus();
  DeliverParked();
}

void LegacyStream::CloseAfterSend(core::Duration limit) {
  (void)limit;  // what was sent is in the channel's queue, ahead of the CLOSE
  Abort();
}

void LegacyStream::Abort() {
  SetHandler(nullptr);
  Leave(true);
  // A delivery may be due: it finds nothing.
  parked_.clear();
  parked_bytes_ = 0;
}

void LegacyStream::OnPayload(core::Slice piece) {
  if (finished_ && half_close_timer_.armed()) half_close_timer_.SetAfter(kLegacyHalfCloseLimit);
  if (!paused_ && parked_.empty()) {
    handler_->OnData(std::move(piece));
    return;
  }
  Park(std::move(piece));
  UpdateChannelPause();
}

void LegacyStream::Park(core::Slice piece) {
  parked_bytes_ += piece.size();
  core::BufferPool& pool = reactor_.buffers();
  if (piece.size() >= core::kCoalesceBytes) {
    parked_.push_back(pool.ForHolding(std::move(piece)));
    return;
  }
  // Small pieces are joined: the bound is on bytes, and a peer that sends them one by one must not make it one on
  // blocks.
  const bool joins = !parked_.empty() && parked_.back().buffer()->owner == &pool &&
                     parked_.back().buffer()->references == 1 && parked_.back().room() >= piece.size();
  if (!joins) {
    parked_.push_back(pool.Allocate(core::kCoalesceBytes));
    parked_.back().Truncate(0);
  }
  parked_.back().Append(piece.bytes());
}

void LegacyStream::UpdateChannelPause() {
  const bool wanted = carrier_ != nullptr && parked_bytes_ > kParkedStreamBytes;
  if (wanted == channel_paused_) return;
  channel_paused_ = wanted;
  if (carrier_ == nullptr) return;
  if (wanted) {
    carrier_->socket().PauseReceive();
  } else {
    carrier_->socket().ResumeReceive();
  }
}

void LegacyStream::OnPeerClose() {
  Leave(false);
  over_ = absl::OkStatus();
  DeliverOver();
}

void LegacyStream::OnChannelDown(const absl::Status& reason) {
  channel_paused_ = false;  // the channel's pauses went with it
  Leave(false);
  over_ = Annotate(reason, "channel lost");
  // What is parked cannot become the whole: the application is told at once.
  parked_.clear();
  parked_bytes_ = 0;
  DeliverOver();
}

void LegacyStream::DeliverParked() {
  while (!paused_ && !parked_.empty()) {
    core::Slice data = std::move(parked_.front());
    parked_.pop_front();
    parked_bytes_ -= data.size();
    UpdateChannelPause();
    // One slice a call, so that this may be destroyed from it; the rest follows in the same turn.
    reactor_.ScheduleAttention(deliverer_);
    handler_->OnData(std::move(data));
    return;
  }
  DeliverOver();
}

void LegacyStream::DeliverOver() {
  if (!over_.has_value() || handler_ == nullptr) return;
  if (over_->ok() && !parked_.empty()) return;
  // It stays true for the handler that is set next.
  std::exchange(handler_, nullptr)->OnDead(*over_);
}

}  // namespace tunnel::net
