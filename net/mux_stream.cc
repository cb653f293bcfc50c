#include "net/mux_stream.h"

#include <algorithm>

#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"
#include "net/mux_faults.h"
#include "net/mux_session.h"
#include "net/mux_status.h"

namespace tunnel::net {

using proto::MuxFrame;
using proto::MuxResetCode;
using proto::MuxType;

// The end of a stream that a relay holds. It owns the stream once the session has forgotten it.
class MuxHandle final : public ByteStream {
 public:
  MuxHandle(MuxStream& stream, std::string peer) : stream_(&stream), peer_(std::move(peer)) {}
  ~MuxHandle() override { stream_->LetGo(); }

  void SetHandler(Handler* handler) override { stream_->SetHandler(handler); }
  void PauseReceive() override { stream_->PauseReceive(); }
  void ResumeReceive() override { stream_->ResumeReceive(); }
  void Send(core::Slice data) override { stream_->Send(std::move(data)); }
  [[nodiscard]] bool writable() const override { return stream_->writable(); }
  [[nodiscard]] size_t queued_bytes() const override { return stream_->send_.unsent(); }
  void FinishSend() override { stream_->FinishSend(); }
  void CloseAfterSend(core::Duration limit) override { stream_->CloseAfterSend(limit); }
  void Abort() override { stream_->Abort(); }
  [[nodiscard]] std::string peer() const override { return peer_; }

 private:
  MuxStream* const stream_;
  const std::string peer_;
};

MuxStream::MuxStream(MuxSession& session, uint32_t id, proto::MuxKind kind, bool ours, proto::Target address,
                     uint64_t peer_limit)
    : session_(session),
      reactor_(session.reactor()),
      id_(id),
      kind_(kind),
      ours_(ours),
      address_(std::move(address)),
      peer_limit_(peer_limit),
      send_(reactor_.buffers()),
      window_(session.budget()),
      parked_(reactor_.buffers()) {
  reactor_.counters().streams_open.Add();
  reactor_.counters().streams_opened.Add();
}

MuxStream::~MuxStream() { reactor_.counters().streams_open.Add(-1); }

std::unique_ptr<ByteStream> MuxStream::TakeHandle() {
  TUNNEL_CHECK(handle_ == nullptr);
  auto handle = std::make_unique<MuxHandle>(*this, channel_ == nullptr ? "" : channel_->socket().peer());
  handle_ = handle.get();
  return handle;
}

// --- opening ---

void MuxStream::Open(MuxChannel& channel, core::Slice first) {
  BindTo(channel);
  const size_t most = proto::kMuxMaxPayloadBytes - proto::kMuxOpenFixedBytes - proto::kMuxMaxAddressBytes;
  const size_t with_open = std::min({first.size(), most, static_cast<size_t>(peer_limit_)});
  SendSelf({.type = MuxType::kOpen, .kind = kind_, .limit = window_.limit(), .address = &address_},
           first.bytes().first(with_open));
  const size_t before = send_.kept();
  send_.Append(std::move(first));
  AccountFor(before);
  // Kept in as many pieces as it came in, which may be several of the queue's.
  for (size_t left = with_open; left > 0;) {
    const size_t piece = send_.Next(left).size();
    send_.Sent(piece);
    left -= piece;
  }
  Schedule();
}

void MuxStream::OpenAgain(MuxChannel& channel) {
  TUNNEL_CHECK(unanswered() && channel_ == nullptr);
  if (!Rewind(0, false)) {
    Violate("CREDIT for a stream whose OPEN was not answered");
    return;
  }
  BindTo(channel);
  reactor_.counters().streams_moved.Add();
  SendSelf({.type = MuxType::kOpen, .kind = kind_, .limit = window_.limit(), .address = &address_});
  Schedule();
}

void MuxStream::Answer(const absl::Status& status, const proto::Target& bound) {
  if (over()) return;
  TUNNEL_CHECK(!ours_ && !answer_.has_value());
  answer_ = status;
  bound_ = bound;
  opened_ = status.ok();
  SendAnswer();
}

void MuxStream::SendAnswer() {
  // Unbound, it waits for the OPEN to be repeated, or for the end of the stream's time.
  if (!answer_.has_value() || channel_ == nullptr) return;
  SendSelf({.type = MuxType::kOpened,
            .status = answer_->ok() ? uint8_t{0} : MuxStatusOf(*answer_),
            .limit = window_.limit(),
            .address = &bound_});
  if (!answer_->ok()) {
    End(*answer_);
  } else {
    Schedule();
  }
}

void MuxStream::OnOpened(const MuxFrame& frame) {
  if (!ours_ || opened_) return;  // said again
  if (frame.status != 0) {
    const absl::Status failure = FailureOf(frame.status);
    if (watcher_ == nullptr) {  // whoever opened it ahead is not told what it was that ended it
      spdlog::debug("{}: {}", proto::ToString(address_), MessageOf(failure));
      reactor_.counters().streams_failed.Add();
    }
    End(failure);
    return;
  }
  opened_ = true;
  bound_ = *frame.address;
  peer_limit_ = std::max(peer_limit_, frame.limit);
  Schedule();
  if (watcher_ != nullptr) watcher_->OnOpened(absl::OkStatus());
}

// --- moving ---

void MuxStream::MoveTo(MuxChannel& channel) {
  if (generation_ == UINT32_MAX) {
    Reset(MuxResetCode::kAborted, "moved too often");
    return;
  }
  TUNNEL_CHECK(channel_ == nullptr);
  ++generation_;
  BindTo(channel);
  fenced_ = true;
  reactor_.counters().streams_moved.Add();
  if (ours_ && !opened_) {
    SendSelf({.type = MuxType::kOpen,
              .kind = kind_,
              .generation = generation_,
              .limit = window_.limit(),
              .address = &address_});
    return;
  }
  window_.Tell();
  SendSelf({.type = MuxType::kResume,
            .fin = fin_received_,
            .generation = generation_,
            .offset = window_.received(),
            .limit = window_.limit()});
  if (!ours_) SendAnswer();
  if (over()) return;  // it was refused, and the peer knows now
  RepeatCredit();
}

void MuxStream::RepeatCredit() {
  if (fin_delivered_) {
    SendCredit();
  } else if (window_.consumed() > 0) {
    OweCredit();  // the last may have been lost
  }
}

void MuxStream::Bind(MuxChannel& channel, uint32_t generation) {
  if (channel_ != nullptr) channel_->Unbind(*this);
  BindTo(channel);
  generation_ = generation;
}

void MuxStream::BindTo(MuxChannel& channel) {
  channel_ = &channel;
  epoch_ = channel.epoch();
  channel.Bind(*this);
}

void MuxStream::OnResume(const MuxFrame& frame) {
  reactor_.counters().streams_moved.Add();
  if (!Rewind(frame.offset, frame.fin)) {
    Violate("RESUME says what cannot be");
    return;
  }
  peer_limit_ = std::max(peer_limit_, frame.limit);
  SendResumed();
  // An OPEN of ours was received, or there would be no RESUME; whether it was taken, the OPENED behind says.
  Schedule();
}

void MuxStream::OnOpenedAgain() {
  reactor_.counters().streams_moved.Add();
  if (!Rewind(0, false)) {
    Violate("OPEN again for a stream that has been opened");
    return;
  }
  SendResumed();
  SendAnswer();
}

bool MuxStream::Rewind(uint64_t received, bool fin) {
  const size_t before = send_.kept();
  if (!send_.Rewind(received, fin)) return false;
  AccountFor(before);
  if (send_.unsent() > 0 && MuxBugStrikes(MuxBug::kDropRetained)) send_.Sent(send_.Next(kMuxDataBytes).size());
  return true;
}

void MuxStream::SendResumed() {
  window_.Tell();
  SendSelf({.type = MuxType::kResumed,
            .fin = fin_received_,
            .generation = generation_,
            .offset = window_.received(),
            .limit = window_.limit()});
  RepeatCredit();
}

void MuxStream::OnResumed(const MuxFrame& frame) {
  if (!fenced_ || frame.generation != generation_) return;
  fenced_ = false;
  if (!Rewind(frame.offset, frame.fin)) {
    Violate("RESUMED says what cannot be");
    return;
  }
  peer_limit_ = std::max(peer_limit_, frame.limit);
  Schedule();
  TellDrained();
}

void MuxStream::Unbind() {
  if (channel_ == nullptr) return;
  std::exchange(channel_, nullptr)->Unbind(*this);
  unbound_since_ = reactor_.now();
  fenced_ = false;
  session_.AddUnbound(*this);
}

// --- the end ---

void MuxStream::Reset(MuxResetCode code, std::string_view reason) {
  if (over()) return;
  session_.SendAnywhere(
      {.type = MuxType::kReset, .stream = id_, .code = static_cast<uint32_t>(code), .reason = reason});
  End(MakeStatus(absl::StatusCode::kAborted, "the stream was reset: {}", reason));
}

void MuxStream::Violate(std::string_view reason) {
  reactor_.counters().streams_broken.Add();
  Reset(MuxResetCode::kProtocol, reason);
}

void MuxStream::OnPeerReset(const MuxFrame& frame) {
  if (!over()) End(StatusOfReset(frame.code, frame.reason));
}

void MuxStream::End(absl::Status reason) {
  if (over()) return;
  over_ = std::move(reason);
  if (channel_ != nullptr) std::exchange(channel_, nullptr)->Unbind(*this);
  // From here on it is its handle's: what that has not taken yet counts no more.
  session_.budget().LetGo(send_.kept() + parked_.bytes());
  window_.Close();
  send_.Clear();
  if (!over_->ok()) parked_.Clear();  // it cannot become the whole
  session_.Forget(*this);
  reactor_.ScheduleAttention(deliverer_);
}

void MuxStream::EndIfDone() {
  if (!over() && fin_delivered_ && send_.delivered()) End(absl::OkStatus());
}

// --- receiving ---

void MuxStream::OnDataBegins() {
  if (kind_ != proto::MuxKind::kTcp) {
    Violate("DATA on a stream that carries no bytes");
  } else if (fin_received_) {
    Violate("DATA behind FIN");
  }
}

void MuxStream::OnPayload(core::Slice piece) {
  const size_t size = piece.size();
  if (!window_.OnReceived(size)) {
    reactor_.counters().streams_broken.Add();
    Reset(MuxResetCode::kFlowControl, "more bytes than were allowed");
    return;
  }
  if (lingering_) {
    lingered_bytes_ += size;
    if (lingered_bytes_ > core::kLingerDiscardBytes) {
      Reset(MuxResetCode::kAborted, "nobody takes this any more");
    } else {
      Consumed(size);
    }
    return;
  }
  if (!paused_ && handler_ != nullptr && parked_.empty()) {
    Consumed(size);
    handler_->OnData(std::move(piece));
    return;
  }
  session_.budget().Hold(size);
  parked_.Push(std::move(piece));
}

void MuxStream::OnFin() {
  if (over()) return;
  fin_received_ = true;
  if (lingering_) {
    DeliverEnd();
  } else {
    Deliver();
  }
}

void MuxStream::Consumed(size_t bytes) {
  window_.OnConsumed(bytes, reactor_.now(), channel_ == nullptr ? core::Duration::zero() : channel_->round_trip());
  if (window_.credit_due()) {
    SendCredit();
  } else {
    OweCredit();
  }
}

void MuxStream::OweCredit() {
  if (!static_cast<core::ListLink<MuxCreditList>&>(*this).linked()) session_.OweCredit(*this);
}

void MuxStream::SendCredit() {
  // Without a channel, moving tells the peer.
  if (channel_ == nullptr || over()) return;
  static_cast<core::ListLink<MuxCreditList>&>(*this).Unlink();
  window_.Tell();
  if (fin_delivered_ && MuxBugStrikes(MuxBug::kSkipCredit)) return;
  SendSelf({.type = MuxType::kCredit, .fin = fin_delivered_, .offset = window_.consumed(), .limit = window_.limit()});
}

void MuxStream::Deliver() {
  if (handler_ != nullptr && !paused_ && !parked_.empty()) {
    core::Slice data = parked_.Pop();
    if (!over()) {
      session_.budget().LetGo(data.size());
      Consumed(data.size());
    }
    // One slice a call, so that this may end from it; the rest follows in the same turn.
    reactor_.ScheduleAttention(deliverer_);
    handler_->OnData(std::move(data));
    return;
  }
  DeliverEnd();
}

void MuxStream::DeliverEnd() {
  if (over()) {
    const bool all_taken = parked_.empty() || !over_->ok();
    if (!all_taken || over_told_) return;
    if (watcher_ != nullptr) {
      over_told_ = true;
      Watcher* watcher = std::exchange(watcher_, nullptr);
      if (opened_) {
        watcher->OnGone(*over_);
      } else {
        watcher->OnOpened(*over_);
      }
    } else if (handler_ != nullptr) {
      over_told_ = true;
      std::exchange(handler_, nullptr)->OnDead(*over_);
    }
    return;
  }
  if (!fin_received_ || fin_delivered_ || !parked_.empty() || !(lingering_ || (handler_ != nullptr && !paused_)))
    return;
  fin_delivered_ = true;
  SendCredit();
  EndIfDone();
  if (handler_ != nullptr) handler_->OnEnd();
}

void MuxStream::OnDatagram(const proto::Target& address, core::Slice payload) {
  if (kind_ != proto::MuxKind::kUdp) {
    Violate("DATAGRAM on a stream that carries bytes");
  } else if (watcher_ != nullptr) {
    watcher_->OnCarried(address, std::move(payload));
  } else {
    reactor_.counters().datagrams_dropped.Add();  // whom it is for has just gone
  }
}

// --- sending ---

void MuxStream::SendSelf(MuxFrame frame, std::span<const uint8_t> payload) {
  frame.stream = id_;
  channel_->Send(frame, payload);
}

void MuxStream::SendDatagram(const proto::Target& to, core::Slice payload) {
  if (channel_ == nullptr || over()) {
    reactor_.counters().datagrams_dropped.Add();
    return;
  }
  channel_->SendDatagram({.type = MuxType::kDatagram, .stream = id_, .address = &to}, payload.bytes());
}

bool MuxStream::sendable() const {
  if (channel_ == nullptr || fenced_ || (!ours_ && !opened_)) return false;
  return (send_.unsent() > 0 && send_.next() < peer_limit_) || send_.fin_due();
}

void MuxStream::Schedule() {
  if (sendable()) channel_->Schedule(*this);
}

bool MuxStream::SendTurn() {
  size_t left = kMuxQuantumBytes;
  while (left > 0 && sendable()) {
    const size_t most = static_cast<size_t>(
        std::min<uint64_t>(std::min(left, kMuxDataBytes), peer_limit_ - std::min(peer_limit_, send_.next())));
    const std::span<const uint8_t> piece = send_.Next(most);
    TUNNEL_CHECK(!piece.empty() || send_.fin_due());
    channel_->SendData(id_, send_.FinIsAt(send_.next() + piece.size()), piece);
    send_.Sent(piece.size());
    left -= std::max(piece.size(), size_t{1});
  }
  TellDrained();
  return sendable();
}

void MuxStream::TellDrained() {
  if (!full_ || handler_ == nullptr || send_.unsent() > kMuxUnsentLowBytes || !writable()) return;
  full_ = false;
  handler_->OnDrained();
}

void MuxStream::OnCredit(const MuxFrame& frame) {
  const size_t before = send_.kept();
  if (!send_.OnConsumed(frame.offset, frame.fin)) {
    Violate("CREDIT says what cannot be");
    return;
  }
  AccountFor(before);
  peer_limit_ = std::max(peer_limit_, frame.limit);
  EndIfDone();
  if (over()) return;
  Schedule();
  TellDrained();
}

void MuxStream::AccountFor(size_t kept_before) {
  MuxBudget& budget = session_.budget();
  budget.Hold(send_.kept());
  budget.LetGo(kept_before);
}

// --- the handle's calls ---

void MuxStream::SetHandler(ByteStream::Handler* handler) {
  handler_ = handler;
  paused_ = handler == nullptr;
  if (!paused_) reactor_.ScheduleAttention(deliverer_);
}

void MuxStream::ResumeReceive() {
  if (!paused_ || handler_ == nullptr) return;
  paused_ = false;
  if (!parked_.empty() || over() || fin_received_) reactor_.ScheduleAttention(deliverer_);
}

void MuxStream::Send(core::Slice data) {
  if (over() || send_.finished()) return;
  const size_t before = send_.kept();
  send_.Append(std::move(data));
  AccountFor(before);
  full_ |= !writable();
  Schedule();
}

bool MuxStream::writable() const {
  if (over()) return true;
  if (send_.unsent() >= kMuxUnsentHighBytes) return false;
  // Short of memory, a stream that keeps nothing may still send; what it then keeps, its peer will let go of.
  return send_.kept() == 0 || !session_.budget().exhausted();
}

void MuxStream::FinishSend() {
  if (over() || send_.finished()) return;
  send_.Finish();
  Schedule();
}

void MuxStream::CloseAfterSend(core::Duration limit) {
  handler_ = nullptr;
  if (over() || lingering_) return;
  lingering_ = true;
  linger_until_ = reactor_.now() + limit;
  session_.Linger(*this);
  const size_t parked = parked_.bytes();
  parked_.Clear();
  session_.budget().LetGo(parked);
  if (parked > 0) Consumed(parked);
  FinishSend();
  DeliverEnd();
}

void MuxStream::Abort() {
  handler_ = nullptr;
  lingering_ = false;
  Reset(MuxResetCode::kAborted, "");
}

void MuxStream::LetGo() {
  handler_ = nullptr;
  handle_ = nullptr;
  if (over()) {
    // Whoever called may still be inside a call on this.
    reactor_.Defer([self = std::unique_ptr<MuxStream>(this)] {});
    return;
  }
  if (!lingering_) Reset(MuxResetCode::kAborted, "");
}

}  // namespace tunnel::net
