#include "net/mux_client_session.h"

#include <algorithm>
#include <array>

#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"
#include "net/mux_connect.h"

namespace tunnel::net {

using proto::MuxFrame;
using proto::MuxKind;
using proto::MuxType;

namespace {

proto::MuxSessionId MakeSessionId(core::Reactor& reactor) {
  std::array<uint8_t, proto::kMuxSessionIdBytes> random{};
  reactor.FillRandom(random);
  return proto::MuxSessionId(random);
}

// A stream being opened: what its coroutine waits for. Lives in its frame.
class OpenWait final : public MuxStream::Watcher {
 public:
  [[nodiscard]] const std::optional<absl::Status>& result() const { return result_; }
  core::Event& changed() { return changed_; }

 private:
  void OnOpened(const absl::Status& status) override { Say(status); }
  void OnCarried(const proto::Target& address, core::Slice payload) override {
    (void)address;
    (void)payload;
  }
  void OnGone(const absl::Status& reason) override {
    // Opened, and ended in order before the coroutine ran: its handle tells the next handler so.
    if (!reason.ok()) Say(reason);
  }
  void Say(const absl::Status& status) {
    result_ = status;
    changed_.Set();
  }

  std::optional<absl::Status> result_;
  core::Event changed_;
};

}  // namespace

MuxClientSession::MuxClientSession(core::Reactor& reactor, MuxBudget& budget, uint32_t first_id)
    : MuxSession(reactor, proto::Role::kClient, budget), id_(MakeSessionId(reactor)), next_id_(first_id) {}

MuxClientSession::~MuxClientSession() { EndAll(Unavailable("the client stops")); }

absl::StatusOr<MuxStream*> MuxClientSession::NewStream(MuxChannel& channel, MuxKind kind, proto::Target address) {
  if (streams() >= kMuxStreamsPerSession) return ResourceExhausted("the session has as many streams as it may");
  if (next_id_ > UINT32_MAX - 2) return ResourceExhausted("the session has used up its stream ids");
  const MuxFrame open{.type = MuxType::kOpen, .kind = kind, .address = &address};
  if (!proto::MayStandInMux(open)) return InvalidArgument("the tunnel's protocol cannot carry this target");
  MuxStream& stream = MakeStream(next_id_, kind, true, std::move(address), channel.peer_window());
  next_id_ += 2;
  return &stream;
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> MuxClientSession::Open(MuxChannel& channel,
                                                                               proto::Target target,
                                                                               core::Slice first) {
  OpenWait wait;
  auto stream = NewStream(channel, MuxKind::kTcp, std::move(target));
  if (!stream.ok()) co_return stream.status();
  (*stream)->SetWatcher(&wait);
  (*stream)->Open(channel, std::move(first));
  std::unique_ptr<ByteStream> handle = (*stream)->TakeHandle();
  while (!wait.result().has_value()) {
    wait.changed().Reset();
    const absl::Status waited = co_await wait.changed().Wait();
    if (waited.ok()) continue;
    (*stream)->SetWatcher(nullptr);
    co_return waited;
  }
  (*stream)->SetWatcher(nullptr);
  if (!wait.result()->ok()) co_return *wait.result();
  co_return std::move(handle);
}

absl::StatusOr<MuxStream*> MuxClientSession::OpenEmpty(MuxChannel& channel, MuxKind kind, proto::Target address) {
  auto stream = NewStream(channel, kind, std::move(address));
  if (stream.ok()) (*stream)->Open(channel, {});
  return stream;
}

absl::StatusOr<std::unique_ptr<ByteStream>> MuxClientSession::OpenAhead(MuxChannel& channel, proto::Target target) {
  auto stream = OpenEmpty(channel, MuxKind::kTcp, std::move(target));
  if (!stream.ok()) return stream.status();
  return (*stream)->TakeHandle();
}

absl::StatusOr<MuxStream*> MuxClientSession::OpenDatagrams(MuxChannel& channel) {
  // Where the application sends from says nothing here: its relay is this process.
  return OpenEmpty(channel, MuxKind::kUdp, Nowhere());
}

absl::StatusOr<MuxStream*> MuxClientSession::OpenListener(MuxChannel& channel, proto::Target address) {
  return OpenEmpty(channel, MuxKind::kListen, std::move(address));
}

void MuxClientSession::MoveAway(MuxChannel& channel) {
  channel.SetGoingAway();
  MuxChannel* other = Choose(channel.epoch());
  if (other == nullptr) return;
  while (MuxStream* stream = channel.FirstBound()) stream->Unbind();
  OnDetached();
}

void MuxClientSession::OnAttached(MuxChannel& channel) {
  ForEachUnbound([&channel](MuxStream& stream) {
    if (stream.epoch() == channel.epoch()) stream.MoveTo(channel);
  });
}

void MuxClientSession::OnDetached() {
  ForEachUnbound([this](MuxStream& stream) {
    MuxChannel* channel = Choose(stream.epoch());
    if (channel != nullptr) stream.MoveTo(*channel);
  });
}

void MuxClientSession::OnUnboundChanged() {
  if (stranded_ == HasUnbound()) return;
  stranded_ = HasUnbound();
  if (stranded_changed_ != nullptr) stranded_changed_();
}

MuxSeenIds& MuxClientSession::SeenOf(uint64_t epoch) {
  const auto known =
      std::find_if(seen_.begin(), seen_.end(), [epoch](const Seen& seen) { return seen.epoch == epoch; });
  if (known != seen_.end()) return known->ids;
  if (seen_.size() == kMuxEpochsRemembered) seen_.pop_back();
  seen_.push_front({.epoch = epoch, .ids = {}});
  return seen_.front().ids;
}

MuxStream* MuxClientSession::OnOpen(MuxChannel& channel, const MuxFrame& frame) {
  if (MuxStream* known = Find(frame.stream); known != nullptr) {
    // Servers choose their ids so that this does not happen.
    if (known->epoch() != channel.epoch()) {
      channel.SendReset(frame.stream, proto::MuxResetCode::kOverload);
      return nullptr;
    }
    // Said again, since our answer was lost: where the stream is now, RESUME says.
    MuxChannel* to = Choose(channel.epoch());
    if (known->channel() != nullptr) known->Unbind();
    known->MoveTo(to == nullptr ? channel : *to);
    return nullptr;
  }
  MuxSeenIds& seen = SeenOf(channel.epoch());
  if (seen.Contains(frame.stream)) {
    channel.SendReset(frame.stream, proto::MuxResetCode::kUnknown);
    return nullptr;
  }
  // Of a server that leaves gaps between its ids, the oldest are not told apart any more.
  if (seen.ranges() > kMuxStreamsPerSession) seen = {};
  seen.Add(frame.stream);
  const bool room = streams() < kMuxStreamsPerSession && !budget().exhausted();
  MuxStream& stream = MakeStream(frame.stream, frame.kind, false, *frame.address, frame.limit);
  stream.Bind(channel, 0);
  if (!room) {
    stream.Answer(ResourceExhausted("the streams of this client are as many as they may be"), Nowhere());
  } else if (frame.kind != MuxKind::kTcp || incoming_ == nullptr) {
    stream.Answer(PermissionDenied("nothing here asked for it"), Nowhere());
  } else {
    incoming_(stream);
  }
  return Find(frame.stream);  // unless it was refused
}

void MuxClientSession::OnResume(MuxChannel& channel, const MuxFrame& frame) {
  (void)channel;
  (void)frame;  // the decoder lets none through: only clients move streams
}

void MuxClientSession::OnGoAway(MuxChannel& channel, const MuxFrame& frame) {
  spdlog::info("channel to {}: the server wants it to be left: {}", channel.socket().peer(),
               frame.reason.empty() ? "no reason given" : frame.reason);
  MoveAway(channel);
  if (go_away_ != nullptr) go_away_(channel);
}

}  // namespace tunnel::net
