#include "net/mux_session.h"

#include <algorithm>

#include "net/limits.h"
#include "net/mux_channel.h"

namespace tunnel::net {

using proto::MuxFrame;
using proto::MuxResetCode;

namespace {

constexpr core::Duration kSweepInterval = std::chrono::seconds(1);
// Two channels whose delays differ by less than this are the same: a stream more or less matters more.
constexpr core::Duration kSameDelay = std::chrono::milliseconds(5);

}  // namespace

MuxSession::MuxSession(core::Reactor& reactor, proto::Role role, MuxBudget& budget)
    : reactor_(reactor),
      role_(role),
      budget_(budget),
      alone_since_(reactor.now()),
      credit_timer_(reactor.timers(), [this] { SendCredits(); }),
      sweep_timer_(reactor.timers(), [this] { Sweep(); }) {}

MuxSession::~MuxSession() {
  TUNNEL_CHECK(channels_.empty());
  EndAll(Unavailable("the session is over"));
}

MuxChannel* MuxSession::Choose(std::optional<uint64_t> epoch) const {
  // The first pass finds the least delay, the second the least busy of those near it. One that was never measured is
  // tried: nothing speaks against it.
  core::Duration least = core::Duration::max();
  for (const MuxChannel* channel : channels_) {
    if (channel->usable() && (!epoch || channel->epoch() == *epoch)) least = std::min(least, channel->ExpectedDelay());
  }
  MuxChannel* best = nullptr;
  for (MuxChannel* channel : channels_) {
    if (!channel->usable() || (epoch && channel->epoch() != *epoch)) continue;
    if (channel->ExpectedDelay() > least + std::max(least / 4, kSameDelay)) continue;
    if (best == nullptr || channel->streams() < best->streams()) best = channel;
  }
  return best;
}

std::vector<uint32_t> MuxSession::IdsInOrder() const {
  std::vector<uint32_t> ids;
  ids.reserve(streams_.size());
  for (const auto& [id, stream] : streams_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

void MuxSession::EndAll(const absl::Status& reason) {
  for (const uint32_t id : IdsInOrder()) {
    if (MuxStream* stream = Find(id); stream != nullptr) stream->End(reason);
  }
  TUNNEL_CHECK(streams_.empty());
}

void MuxSession::ResetAll(std::string_view reason) {
  for (const uint32_t id : IdsInOrder()) {
    if (MuxStream* stream = Find(id); stream != nullptr) stream->Reset(MuxResetCode::kAborted, reason);
  }
}

void MuxSession::Attach(MuxChannel& channel) {
  channels_.push_back(&channel);
  alone_since_ = core::kNever;
  OnAttached(channel);
  OnUnboundChanged();
}

void MuxSession::Detach(MuxChannel& channel, const absl::Status& reason) {
  (void)reason;
  std::erase(channels_, &channel);
  if (channels_.empty()) alone_since_ = reactor_.now();
  while (MuxStream* stream = channel.FirstBound()) stream->Unbind();
  OnDetached();
  OnUnboundChanged();
}

void MuxSession::ProbeOthers(const MuxChannel& channel) {
  for (MuxChannel* other : channels_) {
    if (other != &channel) other->Probe();
  }
}

MuxStream* MuxSession::Find(uint32_t stream) {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second.get();
}

MuxStream& MuxSession::MakeStream(uint32_t id, proto::MuxKind kind, bool ours, proto::Target address,
                                  uint64_t peer_limit) {
  const auto [entry, inserted] = streams_.try_emplace(id);
  TUNNEL_CHECK(inserted);
  entry->second = std::make_unique<MuxStream>(*this, id, kind, ours, std::move(address), peer_limit);
  return *entry->second;
}

void MuxSession::Forget(MuxStream& stream) {
  const auto found = streams_.find(stream.id());
  TUNNEL_CHECK(found != streams_.end());
  std::unique_ptr<MuxStream> owned = std::move(found->second);
  streams_.erase(found);
  static_cast<core::ListLink<MuxBoundList>&>(stream).Unlink();
  static_cast<core::ListLink<MuxCreditList>&>(stream).Unlink();
  if (core::ListLink<MuxLingerList>& link = stream; link.linked()) {
    link.Unlink();
    if (lingering_.empty() && settled_ != nullptr) settled_();
  }
  if (stream.held()) {
    // NOLINTNEXTLINE(bugprone-unused-return-value): its handle deletes it
    (void)owned.release();
  } else {
    reactor_.Defer([owned = std::move(owned)] {});  // a call on it is still running
  }
}

void MuxSession::SendAnywhere(const MuxFrame& frame) {
  MuxStream* stream = Find(frame.stream);
  if (stream != nullptr && stream->channel() != nullptr) {
    stream->channel()->Send(frame);
    return;
  }
  // A number of another epoch is another stream where a server opened it.
  for (MuxChannel* channel : channels_) {
    if (stream != nullptr && channel->epoch() != stream->epoch()) continue;
    channel->Send(frame);
    return;
  }
}

void MuxSession::OweCredit(MuxStream& stream) {
  credits_.PushBack(stream);
  if (!credit_timer_.armed()) credit_timer_.SetAfter(kMuxCreditDelay);
}

void MuxSession::SendCredits() {
  while (!credits_.empty()) credits_.PopFront().SendCredit();
}

void MuxSession::AddUnbound(MuxStream& stream) {
  unbound_.PushBack(stream);
  ArmSweep();
}

void MuxSession::Linger(MuxStream& stream) {
  lingering_.PushBack(stream);
  ArmSweep();
}

void MuxSession::ArmSweep() {
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(kSweepInterval);
}

void MuxSession::Sweep() {
  const core::TimePoint now = reactor_.now();
  // Both lists are in the order in which their streams came, but for the limits of those that linger.
  while (!unbound_.empty() && now - unbound_.front().unbound_since() >= kMuxResumeLimit) {
    unbound_.front().Reset(MuxResetCode::kExpired, "without a channel for too long");
  }
  lingering_.ForEach([now](MuxStream& stream) {
    if (stream.linger_until() <= now) stream.Reset(MuxResetCode::kAborted, "its last bytes were not taken in time");
  });
  if (!unbound_.empty() || !lingering_.empty()) ArmSweep();
  OnUnboundChanged();
}

}  // namespace tunnel::net
