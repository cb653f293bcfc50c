#include "net/mux_server_session.h"

#include <algorithm>

#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"
#include "net/mux_status.h"

namespace tunnel::net {

using proto::MuxFrame;
using proto::MuxKind;
using proto::MuxType;

namespace {

// Where nothing is bound that would say something to the client.
const proto::Target& Nowhere() {
  static const proto::Target nowhere{.host = "0.0.0.0", .port = 0};
  return nowhere;
}

// A stream whose target is being connected: owned by its coroutine, so that whatever ends first ends it all.
core::Task<void> ConnectAndAnswer(MuxServerParts parts, MuxStream& stream, std::unique_ptr<ByteStream> handle,
                                  std::shared_ptr<size_t> connecting) {
  ++*connecting;
  const proto::Target target = stream.address();
  auto connected = co_await parts.connector.Connect(target);
  --*connecting;
  if (!connected.ok()) {
    parts.reactor.counters().streams_failed.Add();
    spdlog::debug("target {}: {}", proto::ToString(target), MessageOf(connected.status()));
    stream.Answer(connected.status(), Nowhere());
    // Where no channel is up the answer waits in the stream.
    handle->CloseAfterSend(kMuxResumeLimit);
    co_return;
  }
  stream.Answer(absl::OkStatus(), Nowhere());
  parts.relays.Start(std::move(handle), *std::move(connected));
}

}  // namespace

// A stream of datagrams and its way out.
class MuxServerSession::Association final : MuxStream::Watcher, DatagramAssociation::Handler {
 public:
  Association(MuxServerSession& session, MuxStream& stream)
      : session_(session), stream_(stream), handle_(stream.TakeHandle()) {
    stream_.SetWatcher(this);
  }
  ~Association() { stream_.SetWatcher(nullptr); }

  absl::Status Open(DatagramOpener& way_out) {
    auto opened = way_out.Open(*this, SenderFilter::kAnySender);
    if (!opened.ok()) return opened.status();
    way_ = *std::move(opened);
    return absl::OkStatus();
  }

 private:
  // --- from the client ---
  void OnOpened(const absl::Status& status) override { OnGone(status); }
  void OnCarried(const proto::Target& address, core::Slice payload) override {
    way_->Send(address, std::move(payload));
  }
  void OnGone(const absl::Status& reason) override {
    (void)reason;
    session_.EndAssociation(stream_.id());
  }
  // --- from targets ---
  void OnDatagram(const proto::Target& from, core::Slice payload) override {
    stream_.SendDatagram(from, std::move(payload));
  }
  void OnDead(const absl::Status& reason) override {
    stream_.Reset(proto::MuxResetCode::kAborted, MessageOf(reason));
    session_.EndAssociation(stream_.id());
  }

  MuxServerSession& session_;
  MuxStream& stream_;
  std::unique_ptr<ByteStream> handle_;  // keeps the stream; destroying it resets it
  std::unique_ptr<DatagramAssociation> way_;
};

MuxServerSession::MuxServerSession(const MuxServerParts& parts, uint64_t epoch)
    : MuxSession(parts.reactor, proto::Role::kServer, parts.budget),
      parts_(parts),
      epoch_(epoch),
      open_tokens_(kMuxOpenBurst),
      tokens_at_(parts.reactor.now()) {
  SetSettled(parts_.settled);
}

MuxServerSession::~MuxServerSession() {
  associations_.clear();
  EndAll(Unavailable("the session is over"));
}

absl::Status MuxServerSession::Admit() {
  const core::TimePoint now = reactor().now();
  const double seconds = std::chrono::duration<double>(now - std::exchange(tokens_at_, now)).count();
  open_tokens_ = std::min<double>(kMuxOpenBurst, open_tokens_ + seconds * kMuxOpensPerSecond);
  if (open_tokens_ < 1) return ResourceExhausted("the session opens streams too fast");
  open_tokens_ -= 1;
  if (streams() >= kMuxStreamsPerSession) return ResourceExhausted("the session has as many streams as it may");
  if (*connecting_ >= kMuxConnectsPerSession) return ResourceExhausted("the session connects to too many targets");
  if (budget().exhausted()) return ResourceExhausted("the streams of this server hold as much memory as they may");
  // Ids that leave gaps, each of which has to be remembered.
  if (seen_.ranges() > kMuxStreamsPerSession) return ResourceExhausted("the session's stream ids are too far apart");
  return absl::OkStatus();
}

MuxStream* MuxServerSession::OnOpen(MuxChannel& channel, const MuxFrame& frame) {
  if (MuxStream* known = Find(frame.stream); known != nullptr) {
    // One that is not above came late, on a channel that the client has given up.
    if (frame.generation <= known->generation()) return nullptr;
    known->Bind(channel, frame.generation);
    known->OnOpenedAgain();
    return nullptr;
  }
  if (seen_.Contains(frame.stream)) {
    channel.Send({.type = MuxType::kReset,
                  .stream = frame.stream,
                  .code = static_cast<uint32_t>(proto::MuxResetCode::kUnknown)});
    return nullptr;
  }
  const absl::Status admitted = Admit();
  if (admitted.ok() || seen_.ranges() <= kMuxStreamsPerSession) seen_.Add(frame.stream);
  MuxStream& stream = MakeStream(frame.stream, frame.kind, false, *frame.address, frame.limit);
  stream.Bind(channel, frame.generation);
  if (frame.generation > 0) stream.OnOpenedAgain();
  if (!admitted.ok()) {
    reactor().counters().streams_failed.Add();
    spdlog::debug("stream refused: {}", MessageOf(admitted));
    stream.Answer(admitted, Nowhere());
    return nullptr;
  }
  Accept(stream);
  return Find(frame.stream);  // unless it was refused
}

void MuxServerSession::Accept(MuxStream& stream) {
  switch (stream.kind()) {
    case MuxKind::kTcp: {
      std::unique_ptr<ByteStream> handle = stream.TakeHandle();
      parts_.scope.Spawn(ConnectAndAnswer(parts_, stream, std::move(handle), connecting_));
      break;
    }
    case MuxKind::kUdp: {
      auto association = std::make_unique<Association>(*this, stream);
      absl::Status opened = association->Open(parts_.datagrams);
      if (opened.ok()) associations_.emplace(stream.id(), std::move(association));
      stream.Answer(opened, Nowhere());
      break;
    }
    case MuxKind::kListen:
      stream.Answer(PermissionDenied("this server listens for nobody"), Nowhere());
      break;
  }
}

void MuxServerSession::EndAssociation(uint32_t stream) {
  const auto found = associations_.find(stream);
  if (found == associations_.end()) return;
  // A call on it is still running.
  reactor().Defer([ended = std::move(found->second)] {});
  associations_.erase(found);
}

void MuxServerSession::OnResume(MuxChannel& channel, const MuxFrame& frame) {
  MuxStream* stream = Find(frame.stream);
  if (stream == nullptr) {
    channel.Send({.type = MuxType::kReset,
                  .stream = frame.stream,
                  .code = static_cast<uint32_t>(proto::MuxResetCode::kUnknown)});
    return;
  }
  if (frame.generation <= stream->generation()) return;  // late, as above
  stream->Bind(channel, frame.generation);
  stream->OnResume(frame);
}

void MuxServerSession::OnGoAway(MuxChannel& channel, const MuxFrame& frame) {
  // The client will move what is on it.
  (void)frame;
  channel.SetGoingAway();
}

}  // namespace tunnel::net
