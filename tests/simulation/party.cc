#include "party.h"

#include <fmt/format.h>

#include <algorithm>

namespace tunnel::simulation {
namespace {

using core::IoError;
using core::Slice;

// Byte `offset` of an endless sequence that belongs to one direction of one stream.
uint8_t ByteAt(uint64_t key, uint64_t offset) {
  core::SimRandom word(key + (offset >> 3) * 0x632be59bd9b4e019);
  return static_cast<uint8_t>(word.Next() >> (8 * (offset & 7)));
}

void FillFrom(uint64_t key, uint64_t offset, std::span<uint8_t> out) {
  uint64_t word = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = offset + i;
    if (i == 0 || (at & 7) == 0) word = core::SimRandom(key + (at >> 3) * 0x632be59bd9b4e019).Next();
    out[i] = static_cast<uint8_t>(word >> (8 * (at & 7)));
  }
}

uint64_t KeyOf(uint32_t number, bool from_application) {
  return core::SimRandom((uint64_t{number} << 1) | (from_application ? 1 : 0)).Next();
}

// What a party lets its socket queue.
constexpr size_t kQueueBytes = size_t{256} * 1024;
constexpr core::Duration kLinger = std::chrono::seconds(30);

}  // namespace

std::string PartyRecord::Describe() const {
  return fmt::format("{}sent {}, received {}{}{}{}{}{}", connected ? "" : "never connected; ", sent, received,
                     ended ? ", heard the end" : "", finished ? ", ended" : "", left ? ", left" : "",
                     error.has_value() ? fmt::format(", {}", core::ToString(*error)) : "", over ? "" : ", NOT OVER");
}

Party::Party(core::Reactor& reactor, core::StreamSocket socket, const StreamPlan& plan, bool is_application,
             std::optional<proto::Target> request)
    : reactor_(reactor),
      socket_(std::move(socket)),
      plan_(is_application ? plan.application : plan.target),
      expected_(is_application ? plan.target.send_bytes : plan.application.send_bytes),
      send_key_(KeyOf(plan.number, is_application)),
      receive_key_(KeyOf(plan.number, !is_application)),
      pause_(reactor.timers(), [this] { socket_.ResumeReceive(); }) {
  record_.connected = true;
  record_.local = socket_.local_address();
  record_.peer = socket_.peer_address();
  if (request.has_value()) {
    request_.emplace(proto::Socks5Command::kConnect, *request, std::nullopt);
  } else {
    record_.granted = true;
  }
  socket_.SetHandler(this);
  if (request_.has_value()) {
    Negotiate(Slice());
  } else {
    Progress();
  }
}

void Party::Negotiate(Slice data) {
  request_->Feed(data.bytes());
  for (;;) {
    const proto::Socks5ClientEvent event = request_->Next();
    switch (event.kind) {
      case proto::Socks5ClientEvent::Kind::kNeedMore:
        return;
      case proto::Socks5ClientEvent::Kind::kSend:
        socket_.Send(reactor_.buffers().Copy(event.send));
        break;
      case proto::Socks5ClientEvent::Kind::kDone: {
        const size_t taken = request_->consumed();
        const Slice rest = data.Share(taken, data.size() - taken);
        request_.reset();
        record_.granted = true;
        if (!rest.empty()) Take(rest.bytes());
        Progress();
        return;
      }
      case proto::Socks5ClientEvent::Kind::kError:
        // Refused in words: an orderly end of a stream that never was.
        if (!event.refused && record_.wrong.empty()) record_.wrong = "the answer is no SOCKS5";
        request_.reset();
        record_.ended = true;
        Leave(false);
        record_.left = false;
        return;
    }
  }
}

void Party::Take(std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size() && record_.wrong.empty(); ++i) {
    const uint64_t at = record_.received + i;
    if (at >= expected_) {
      record_.wrong = fmt::format("a byte too many behind the {} that were sent", expected_);
    } else if (bytes[i] != ByteAt(receive_key_, at)) {
      record_.wrong = fmt::format("byte {} of {} is wrong", at, expected_);
    }
  }
  record_.received += bytes.size();
  since_pause_ += bytes.size();
}

void Party::OnReceive(Slice data) {
  if (request_.has_value()) {
    Negotiate(std::move(data));
    return;
  }
  Take(data.bytes());
  if (plan_.pause_every_bytes != 0 && since_pause_ >= plan_.pause_every_bytes) {
    since_pause_ = 0;
    socket_.PauseReceive();
    pause_.SetAfter(plan_.pause_for);
  }
  Progress();
}

void Party::OnReceiveEnd() {
  record_.ended = true;
  if (request_.has_value()) {
    Leave(false);  // no answer at all
  } else {
    Progress();
  }
}

void Party::OnSocketError(IoError error) {
  record_.error = error;
  record_.over = true;
  pause_.Cancel();
  socket_.Close();
}

uint64_t Party::MaySend() const {
  if (!record_.granted || (plan_.start_after_end && !record_.ended) || record_.received < plan_.start_after) return 0;
  return plan_.keeps_step ? std::min(plan_.send_bytes, record_.received) : plan_.send_bytes;
}

void Party::Progress() {
  if (!socket_.open() || request_.has_value()) return;
  const uint64_t leave_at = plan_.leaves_after_bytes.value_or(~uint64_t{0});
  while (record_.sent < MaySend() && socket_.queued_bytes() < kQueueBytes && !record_.finished &&
         record_.sent + record_.received < leave_at) {
    Slice piece = reactor_.buffers().Allocate(core::BufferPool::kMaxBlockBytes);
    piece.Truncate(std::min({uint64_t{plan_.piece_bytes}, uint64_t{piece.size()}, MaySend() - record_.sent}));
    FillFrom(send_key_, record_.sent, piece.bytes());
    record_.sent += piece.size();
    socket_.Send(std::move(piece));
  }
  if (record_.sent + record_.received >= leave_at) {
    record_.left = true;
    Leave(plan_.leaves_with_reset);
    return;
  }
  const bool all_sent = record_.sent == plan_.send_bytes;
  const bool all_received = record_.received >= expected_;
  // Who hears the end too early has nothing more to wait for; whose answer belongs behind the end gives it first,
  // though the connection may be reset meanwhile and no call of its be left to tell.
  const bool cut_short = record_.ended && !all_received && (!plan_.start_after_end || all_sent);
  if (!record_.finished && ((all_sent && (all_received || plan_.ends_when_sent)) || cut_short)) {
    record_.finished = true;
    socket_.FinishSend();
  }
  if (record_.ended && record_.finished) {
    record_.over = true;
    pause_.Cancel();
    socket_.CloseAfterSend(kLinger);
  }
}

void Party::Leave(bool reset) {
  if (!socket_.open()) return;
  record_.over = true;
  pause_.Cancel();
  if (reset) {
    socket_.Reset();
  } else {
    socket_.CloseAfterSend(kLinger);
  }
}

}  // namespace tunnel::simulation
