#include "net/mux_channel.h"

#include <algorithm>
#include <array>

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

using proto::MuxDecoder;
using proto::MuxFrame;
using proto::MuxType;

namespace {

// A first guess, for a channel whose rate was never seen.
constexpr double kGuessedBytesPerSecond = 12.5e6;
constexpr core::Duration kRateSample = std::chrono::milliseconds(10);

// A frame that the peer answers, sooner or later.
bool AsksForAnswer(MuxType type) {
  return type == MuxType::kOpen || type == MuxType::kResume || type == MuxType::kPing;
}

}  // namespace

MuxChannel::MuxChannel(core::Reactor& reactor, WebSocket& socket, MuxSession& session, const Options& options,
                       Down down)
    : reactor_(reactor),
      socket_(socket),
      session_(session),
      options_(options),
      down_(std::move(down)),
      decoder_(session.role()),
      assembler_(reactor.buffers()),
      last_received_(reactor.now()),
      ping_timer_(reactor.timers(), [this] { OnPingTimer(); }),
      watch_timer_(reactor.timers(), [this] { OnWatchTimer(); }) {}

MuxChannel::~MuxChannel() {
  DropDatagrams();
  if (!std::exchange(up_, false)) return;
  session_.Detach(*this, Unavailable("the channel was closed"));
}

void MuxChannel::Start() {
  up_ = true;
  socket_.LimitUnsent(kMuxKernelUnsentBytes);
  session_.Attach(*this);
  SendPing();
}

void MuxChannel::Send(const MuxFrame& frame, std::span<const uint8_t> payload) {
  std::array<uint8_t, proto::kMuxMaxHeadBytes> head{};
  const std::optional<size_t> size = proto::EncodeMuxFrame(head, session_.role(), frame);
  TUNNEL_CHECK(size.has_value());  // addresses are checked where they come in
  if (!up_) return;
  sent_bytes_ += *size + payload.size();
  if (AsksForAnswer(frame.type)) {
    unproven_ |= frame.type != MuxType::kPing;
    Watch();
  }
  socket_.SendMessage(proto::Opcode::kBinary, std::span(head).first(*size), payload);
  if (socket_.queued_bytes() > kMuxControlBacklogBytes) {
    // Not now: who calls has streams in hand. Bulk stops far below; only answers to a peer that does not read them get
    // this high.
    overloaded_ = true;
    reactor_.ScheduleAttention(*this);
  }
}

void MuxChannel::SendReset(uint32_t stream, proto::MuxResetCode code) {
  Send({.type = MuxType::kReset, .stream = stream, .code = static_cast<uint32_t>(code)});
}

void MuxChannel::SendData(uint32_t stream, bool fin, std::span<const uint8_t> payload) {
  std::array<uint8_t, proto::kMuxDataHeadBytes> head{};
  proto::EncodeMuxDataHead(head, stream, fin);
  sent_bytes_ += head.size() + payload.size();
  Watch();
  socket_.SendMessage(proto::Opcode::kBinary, head, payload);
}

void MuxChannel::SendDatagram(const MuxFrame& frame, std::span<const uint8_t> payload) {
  std::array<uint8_t, proto::kMuxMaxHeadBytes> head{};
  const std::optional<size_t> size = proto::EncodeMuxFrame(head, session_.role(), frame);
  core::Counters& counters = reactor_.counters();
  const size_t total = size.value_or(0) + payload.size();
  if (!up_ || !size.has_value() || total > proto::kMuxMaxMessageBytes) {
    counters.datagrams_dropped.Add();
    return;
  }
  if (datagrams_.empty() && socket_.queued_bytes() < kMuxChannelQueueBytes) {
    sent_bytes_ += total;
    socket_.SendMessage(proto::Opcode::kBinary, std::span(head).first(*size), payload);
    return;
  }
  if (total > core::BufferPool::kMaxBlockBytes) {  // it would need a queue of its own
    counters.datagrams_dropped.Add();
    return;
  }
  core::Slice whole = reactor_.buffers().Allocate(total);
  std::copy_n(head.begin(), *size, whole.data());
  std::copy(payload.begin(), payload.end(), whole.data() + *size);
  whole.Truncate(total);
  datagram_bytes_ += total;
  datagrams_.push_back(std::move(whole));
  while (datagram_bytes_ > kMuxDatagramQueueBytes) {
    datagram_bytes_ -= datagrams_.front().size();
    datagrams_.pop_front();
    counters.datagrams_dropped.Add();
  }
}

void MuxChannel::DropDatagrams() {
  reactor_.counters().datagrams_dropped.Add(static_cast<int64_t>(datagrams_.size()));
  datagrams_.clear();
  datagram_bytes_ = 0;
}

void MuxChannel::Schedule(MuxStream& stream) {
  core::ListLink<MuxSendList>& link = stream;
  if (!link.linked()) sending_.PushBack(stream);
  reactor_.ScheduleAttention(*this);
}

void MuxChannel::Bind(MuxStream& stream) {
  static_cast<core::ListLink<MuxBoundList>&>(stream).Unlink();
  bound_.PushBack(stream);
  ++bound_count_;
}

void MuxChannel::Unbind(MuxStream& stream) {
  static_cast<core::ListLink<MuxBoundList>&>(stream).Unlink();
  static_cast<core::ListLink<MuxSendList>&>(stream).Unlink();
  --bound_count_;
  ForgetCurrent(stream);
  if (leaving_ && bound_count_ == 0) reactor_.ScheduleAttention(*this);
}

void MuxChannel::Attend() {
  if (overloaded_) {
    Break(proto::kClosePolicy, "answers are not read");
  } else {
    Pump();
  }
  if (leaving_ && up_ && bound_count_ == 0) socket_.Close(proto::kCloseNormal, "replaced");
}

void MuxChannel::Pump() {
  // One round after another, until nobody has anything or the socket has enough.
  while (up_ && socket_.queued_bytes() < kMuxChannelQueueBytes) {
    size_t turn = kMuxQuantumBytes;
    while (!datagrams_.empty() && turn > 0) {
      const core::Slice datagram = std::move(datagrams_.front());
      datagrams_.pop_front();
      datagram_bytes_ -= datagram.size();
      turn -= std::min(turn, datagram.size());
      sent_bytes_ += datagram.size();
      socket_.SendMessage(proto::Opcode::kBinary, datagram.bytes(), {});
    }
    if (sending_.empty()) {
      if (datagrams_.empty()) break;
      continue;
    }
    MuxStream& stream = sending_.PopFront();
    if (stream.SendTurn()) sending_.PushBack(stream);
  }
  MeasureRate();
}

void MuxChannel::MeasureRate() {
  const core::TimePoint now = reactor_.now();
  const size_t queued = socket_.queued_bytes();
  const uint64_t delivered = sent_bytes_ - std::min<uint64_t>(sent_bytes_, queued);
  // Only a queue that is never empty says how fast the path is.
  if (queued < core::kSendLowWaterBytes / 2) {
    rate_running_ = false;
    return;
  }
  if (!rate_running_) {
    rate_running_ = true;
    rate_since_ = now;
    rate_from_ = delivered;
    return;
  }
  const core::Duration elapsed = now - rate_since_;
  if (elapsed < kRateSample || delivered < rate_from_) return;
  const double sample = static_cast<double>(delivered - rate_from_) * 1e9 / static_cast<double>(elapsed.count());
  bytes_per_second_ = bytes_per_second_ == 0 ? sample : bytes_per_second_ * 0.75 + sample * 0.25;
  rate_since_ = now;
  rate_from_ = delivered;
}

core::Duration MuxChannel::TimeToSendQueue() const {
  const double rate = bytes_per_second_ == 0 ? kGuessedBytesPerSecond : bytes_per_second_;
  const double nanoseconds = static_cast<double>(socket_.queued_bytes() + datagram_bytes_) * 1e9 / rate;
  return core::Duration(static_cast<int64_t>(std::min(nanoseconds, 1e10)));
}

core::Duration MuxChannel::ExpectedDelay() const { return smoothed_ / 2 + variation_ + TimeToSendQueue(); }

void MuxChannel::GoAway(proto::MuxGoAwayCode code, std::string_view reason) {
  going_away_ = true;
  Send({.type = MuxType::kGoAway, .code = static_cast<uint32_t>(code), .reason = reason});
}

void MuxChannel::CloseWhenLeft() {
  leaving_ = true;
  reactor_.ScheduleAttention(*this);
}

void MuxChannel::Break(uint16_t close_code, std::string_view reason) {
  if (!std::exchange(up_, false)) return;
  if (close_code == proto::kCloseProtocolError) reactor_.counters().protocol_errors.Add();
  socket_.Close(close_code, reason);
  session_.Detach(*this, Unavailable("the channel was closed: {}", reason));
}

void MuxChannel::GiveUp(const absl::Status& reason) {
  if (!std::exchange(up_, false)) return;
  session_.Detach(*this, reason);
  socket_.Drop(reason);
}

void MuxChannel::OnDown(const absl::Status& reason) {
  if (std::exchange(up_, false)) session_.Detach(*this, reason);
  DropDatagrams();
  ping_timer_.Cancel();
  watch_timer_.Cancel();
  Down down = std::exchange(down_, nullptr);
  if (down != nullptr) down(reason);
}

// --- frames ---

void MuxChannel::OnMessageBegin(proto::Opcode opcode) {
  if (!up_) return;
  OnSign();
  decoder_.Begin(opcode);
}

void MuxChannel::OnMessageData(core::Slice piece) {
  if (!up_) return;
  OnSign();
  decoder_.Feed(piece.bytes());
  NextEvents(&piece);
}

void MuxChannel::OnMessageEnd() {
  if (!up_) return;
  decoder_.Finish();
  NextEvents(nullptr);
}

void MuxChannel::NextEvents(const core::Slice* piece) {
  while (up_) {
    const MuxDecoder::Event event = decoder_.Next();
    switch (event.kind) {
      case MuxDecoder::EventKind::kNeedMore:
        return;
      case MuxDecoder::EventKind::kFrame:
        current_ = nullptr;
        OnFrame(decoder_.frame());
        break;
      case MuxDecoder::EventKind::kPayload: {
        TUNNEL_CHECK(piece != nullptr);
        core::Slice payload = piece->ShareSpan(event.payload);
        if (decoder_.frame().type == MuxType::kDatagram) {
          assembler_.Add(std::move(payload));
        } else if (current_ != nullptr) {
          current_->OnPayload(std::move(payload));
        }
        break;
      }
      case MuxDecoder::EventKind::kEnd:
        OnFrameEnd();
        break;
      case MuxDecoder::EventKind::kError:
        spdlog::info("channel to {}: broke the protocol: {}", socket_.peer(), event.reason);
        Break(proto::kCloseProtocolError, event.reason);
        return;
    }
  }
}

void MuxChannel::OnFrame(const MuxFrame& frame) {
  switch (frame.type) {
    case MuxType::kPing:
      // A PONG that is not sent costs a sample; one for each PING of a peer that does not read would cost memory.
      if (socket_.writable()) Send({.type = MuxType::kPong, .opaque = frame.opaque});
      break;
    case MuxType::kPong:
      OnPong(frame.opaque);
      break;
    case MuxType::kGoAway:
      if (!going_away_) session_.OnGoAway(*this, frame);
      break;
    case MuxType::kOpen:
      current_ = session_.OnOpen(*this, frame);
      break;
    case MuxType::kResume:
      session_.OnResume(*this, frame);
      break;
    case MuxType::kReset:
      // It counts wherever it comes, but for another epoch's stream of the same number.
      if (MuxStream* stream = session_.Find(frame.stream); stream != nullptr && stream->epoch() == epoch()) {
        stream->OnPeerReset(frame);
      }
      break;
    case MuxType::kPad:
      break;
    default:
      OnStreamFrame(frame);
      break;
  }
}

void MuxChannel::OnStreamFrame(const MuxFrame& frame) {
  MuxStream* stream = session_.Find(frame.stream);
  if (frame.type == MuxType::kDatagram) assembler_.Begin();
  if (frame.type == MuxType::kResumed) {
    if (stream != nullptr && stream->channel() == this) stream->OnResumed(frame);
    return;
  }
  // It has just ended, or moved: what is on its way on the channel it left means nothing.
  if (stream == nullptr || !stream->Takes(*this)) return;
  switch (frame.type) {
    case MuxType::kOpened:
      stream->OnOpened(frame);
      break;
    case MuxType::kCredit:
      stream->OnCredit(frame);
      break;
    default:  // kData, kDatagram: what they hold follows
      current_ = stream;
      if (frame.type == MuxType::kData) stream->OnDataBegins();
      break;
  }
}

void MuxChannel::OnFrameEnd() {
  MuxStream* stream = std::exchange(current_, nullptr);
  const MuxFrame& frame = decoder_.frame();
  if (frame.type == MuxType::kDatagram) {
    std::optional<core::Slice> payload = assembler_.Take();
    if (!payload.has_value()) {
      reactor_.counters().datagrams_malformed.Add();
    } else if (stream == nullptr) {
      reactor_.counters().datagrams_dropped.Add();
    } else {
      stream->OnDatagram(*frame.address, *std::move(payload));
    }
  } else if (frame.type == MuxType::kData && frame.fin && stream != nullptr) {
    stream->OnFin();
  }
}

// --- signs of life ---

void MuxChannel::SendPing() {
  std::array<uint8_t, sizeof(ping_number_)> opaque{};
  proto::StoreBig64(opaque.data(), ++ping_number_);
  ping_open_ = true;
  unproven_ = false;
  ping_sent_ = reactor_.now();
  Send({.type = MuxType::kPing, .opaque = opaque});
  // Jittered, so that many channels do not ping in step.
  ping_timer_.SetAfter(kPingInterval - reactor_.RandomBelow(kPingInterval / 5));
}

void MuxChannel::OnPingTimer() {
  if (!up_) return;
  if (ping_open_ && ++missed_pongs_ >= kMuxMissedPongs) {
    GiveUp(absl::DeadlineExceededError(fmt::format("the peer answered nothing for {} s",
                                                   core::ToMilliseconds(reactor_.now() - last_received_) / 1000)));
    return;
  }
  SendPing();
}

void MuxChannel::Probe() {
  if (up_ && !ping_open_) SendPing();
}

void MuxChannel::OnPong(std::span<const uint8_t> opaque) {
  if (!ping_open_ || opaque.size() != sizeof(ping_number_) || proto::LoadBig64(opaque.data()) != ping_number_) return;
  ping_open_ = false;
  const core::Duration sample = std::max<core::Duration>(reactor_.now() - ping_sent_, std::chrono::microseconds(1));
  // RFC 6298 section 2.
  if (!measured()) {
    smoothed_ = sample;
    variation_ = sample / 2;
  } else {
    const core::Duration error = smoothed_ > sample ? smoothed_ - sample : sample - smoothed_;
    variation_ = (3 * variation_ + error) / 4;
    smoothed_ = (7 * smoothed_ + sample) / 8;
  }
}

core::Duration MuxChannel::SilenceLimit() const {
  return std::max<core::Duration>(kMuxSilenceLimit, smoothed_ + 4 * variation_) + TimeToSendQueue();
}

void MuxChannel::Watch() {
  // A server cannot move streams, and would only cut a channel that its client still wants.
  if (session_.role() == proto::Role::kServer) return;
  if (std::exchange(waiting_, true)) return;
  waiting_since_ = reactor_.now();
  if (!watch_timer_.armed()) watch_timer_.SetAfter(SilenceLimit());
}

void MuxChannel::OnSign() {
  last_received_ = reactor_.now();
  missed_pongs_ = 0;
  waiting_ = false;
  probed_ = false;
  ++received_;
  session_.OnSign();
}

void MuxChannel::OnWatchTimer() {
  if (!up_) return;
  if (!waiting_) {
    // Something came, but not what was asked for, perhaps, and nothing may be left to send that would be missed.
    if (!unproven_) return;
    if (ping_open_) {
      watch_timer_.SetAfter(SilenceLimit());
    } else {
      SendPing();
    }
    return;
  }
  const core::TimePoint until = (probed_ ? probed_at_ : waiting_since_) + SilenceLimit();
  if (reactor_.now() < until) {
    watch_timer_.SetAt(until);
    return;
  }
  if (probed_ && session_.signs() - received_ > others_before_) {
    spdlog::info("channel to {}: frozen: it answers nothing while others do", socket_.peer());
    GiveUp(Unavailable("frozen: nothing came for {} ms while other channels delivered",
                       core::ToMilliseconds(reactor_.now() - last_received_)));
    return;
  }
  const core::Duration silent = reactor_.now() - waiting_since_;
  if (silent >= kMuxDeadLimit) {
    GiveUp(absl::DeadlineExceededError(
        fmt::format("the server answered nothing for {} s", core::ToMilliseconds(silent) / 1000)));
    return;
  }
  // Silent so far. Whether it is this channel or all of them, a PING on each will tell.
  if (!std::exchange(probed_, true)) {
    probed_at_ = reactor_.now();
    others_before_ = session_.signs() - received_;
    SendPing();
  }
  session_.ProbeOthers(*this);
  watch_timer_.SetAfter(SilenceLimit());
}

}  // namespace tunnel::net
