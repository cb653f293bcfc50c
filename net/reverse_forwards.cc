#include "net/reverse_forwards.h"

#include <algorithm>

#include "core/io_error.h"
#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"
#include "net/mux_connect.h"

namespace tunnel::net {
namespace {

// Why a server does not listen, in its operator's words.
std::string WhyNotListening(const absl::Status& failure) {
  if (absl::IsPermissionDenied(failure)) return "the server does not allow it (its -allow-reverse)";
  switch (core::IoErrorOf(failure)) {
    case core::IoError::kRefused:
      return "the address is in use at the server, perhaps still by this client before it was started again";
    case core::IoError::kNetworkUnreachable:
      return "the address is none of the server's";
    default:
      return "the server could not listen there";
  }
}

}  // namespace

class ReverseForwards::Forward final : MuxStream::Watcher {
 public:
  Forward(ReverseForwards& owner, const ListenSpec& spec)
      : owner_(owner), spec_(spec), retry_timer_(owner.reactor_.timers(), [this] { Ask(); }) {}
  ~Forward() { Close(); }

  [[nodiscard]] const ListenSpec& spec() const { return spec_; }
  [[nodiscard]] bool asking() const { return stream_ != nullptr && !listening_; }
  [[nodiscard]] bool ListensAt(const proto::Target& address) const { return listening_ && stream_->bound() == address; }

  void OnChannelsChanged() {
    if (stream_ == nullptr) {
      if (!retry_timer_.armed()) Ask();
      return;
    }
    if (stream_->channel() != nullptr || owner_.session_->Choose(stream_->epoch()) != nullptr) return;
    if (owner_.session_->Choose() == nullptr) return;
    // The channels that are up now lead to another process, perhaps the old one's successor.
    spdlog::info("{}: the server is another one than before", spec_.description);
    Close();
    Ask();
  }
  void Close() {
    retry_timer_.Cancel();
    if (stream_ == nullptr) return;
    listening_ = false;
    std::exchange(stream_, nullptr)->SetWatcher(nullptr);
    handle_.reset();  // which tells the server, where it lives
  }

 private:
  void Ask() {
    MuxChannel* channel = owner_.session_->Choose();
    if (channel == nullptr || owner_.stopped_) return;  // until one is up
    auto opened = owner_.session_->OpenListener(*channel, {.host = spec_.address.ip(), .port = spec_.address.port()});
    if (!opened.ok()) {
      Retry(std::string(MessageOf(opened.status())));
      return;
    }
    stream_ = *opened;
    handle_ = stream_->TakeHandle();
    stream_->SetWatcher(this);
  }
  void Retry(const std::string& why) {
    const core::Duration delay = back_off_ / 2 + owner_.reactor_.RandomBelow(back_off_ / 2);
    back_off_ = std::min(back_off_ * 2, kReverseRetryMax);
    const std::string line = fmt::format("{}: not listening: {}; trying again", spec_.description, why);
    // Once, while it stays the same.
    spdlog::log(why == said_ ? spdlog::level::debug : spdlog::level::warn, "{}", line);
    said_ = why;
    retry_timer_.SetAfter(delay);
  }

  void OnOpened(const absl::Status& status) override {
    if (!status.ok()) {
      Close();
      Retry(WhyNotListening(status));
    } else {
      listening_ = true;
      said_.clear();
      back_off_ = kReverseRetryMin;
      const std::string port =
          spec_.address.port() == 0 ? fmt::format(" (port {})", stream_->bound().port) : std::string();
      spdlog::info("listening on {}{}, at the server", spec_.description, port);
    }
    owner_.SettleWaiting();
  }
  void OnCarried(const proto::Target& address, core::Slice payload) override {
    (void)address;
    (void)payload;
  }
  void OnGone(const absl::Status& reason) override {
    Close();
    if (!owner_.stopped_) Retry(std::string(MessageOf(reason)));
    owner_.SettleWaiting();
  }

  ReverseForwards& owner_;
  const ListenSpec& spec_;
  MuxStream* stream_ = nullptr;         // while there is one
  std::unique_ptr<ByteStream> handle_;  // keeps it
  bool listening_ = false;
  std::string said_;  // the last failure that was logged
  core::Duration back_off_ = kReverseRetryMin;
  core::Timer retry_timer_;
};

ReverseForwards::ReverseForwards(core::Reactor& reactor, MuxClientSession& session, Resolver& resolver,
                                 RelaySet& relays, core::Scope& scope)
    : reactor_(reactor), session_(&session), relays_(relays), scope_(scope), policy_({}, {}), resolver_(resolver) {
  MoveTo(session);
}

ReverseForwards::~ReverseForwards() {
  for (MuxClientSession* session : sessions_) session->SetIncoming(nullptr);
}

void ReverseForwards::MoveTo(MuxClientSession& session) {
  for (const auto& forward : forwards_) forward->Close();
  session_ = &session;
  sessions_.push_back(&session);
  session.SetIncoming([this](MuxStream& stream) { OnIncoming(stream); });
  OnChannelsChanged(false);
}

void ReverseForwards::Add(const ListenSpec& spec) {
  forwards_.push_back(std::make_unique<Forward>(*this, spec));
  std::vector<TargetRule> allowed(1);  // everything that has a port
  for (const auto& forward : forwards_) {
    const std::string& host = forward->spec().target.host;
    if (!proto::IsUnixTarget(host)) continue;
    allowed.push_back({.kind = TargetRule::Kind::kUnix, .network = {}, .name = std::string(proto::UnixPathOf(host))});
  }
  policy_ = TargetPolicy(std::move(allowed), {});
  if (connector_ == nullptr) connector_ = std::make_unique<TargetConnector>(reactor_, resolver_, policy_);
}

void ReverseForwards::OnChannelsChanged(bool only_legacy) {
  if (stopped_ || forwards_.empty()) return;
  if (only_legacy && !std::exchange(legacy_said_, true)) {
    spdlog::warn("{} waits: reverse forwards need mux/2, which the server does not speak",
                 forwards_.front()->spec().description);
  }
  for (const auto& forward : forwards_) forward->OnChannelsChanged();
}

void ReverseForwards::Stop() {
  stopped_ = true;
  for (const auto& forward : forwards_) forward->Close();
  SettleWaiting();
}

const ReverseForwards::Forward* ReverseForwards::Find(const proto::Target& address) const {
  const auto found = std::find_if(forwards_.begin(), forwards_.end(),
                                  [&](const auto& forward) { return forward->ListensAt(address); });
  return found == forwards_.end() ? nullptr : found->get();
}

bool ReverseForwards::MayBecome(const proto::Target& address) const {
  return std::any_of(forwards_.begin(), forwards_.end(), [&](const auto& forward) {
    const core::SocketAddress& asked = forward->spec().address;
    return forward->asking() && asked.ip() == address.host && (asked.port() == 0 || asked.port() == address.port);
  });
}

void ReverseForwards::OnIncoming(MuxStream& stream) {
  if (*connecting_ >= kMuxConnectsPerSession || waiting_.size() >= kReverseWaiting) {
    stream.Answer(ResourceExhausted("too many connections are under way"), Nowhere());
  } else if (const Forward* forward = Find(stream.address()); forward != nullptr) {
    Connect(*forward, stream, stream.TakeHandle());
  } else if (MayBecome(stream.address())) {
    // It overtook the answer, on another channel.
    waiting_.push_back({.stream = &stream, .handle = stream.TakeHandle()});
  } else {
    stream.Answer(PermissionDenied("nothing here asked for it"), Nowhere());
  }
}

void ReverseForwards::Connect(const Forward& forward, MuxStream& stream, std::unique_ptr<ByteStream> handle) {
  scope_.Spawn(
      ConnectAndAnswer(reactor_, *connector_, relays_, forward.spec().target, stream, std::move(handle), connecting_));
}

void ReverseForwards::SettleWaiting() {
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    if (waiting.stream->over()) continue;  // its handle lets go of it
    if (const Forward* forward = Find(waiting.stream->address()); forward != nullptr) {
      Connect(*forward, *waiting.stream, std::move(waiting.handle));
    } else if (!stopped_ && MayBecome(waiting.stream->address())) {
      waiting_.push_back(std::move(waiting));
    } else {
      waiting.stream->Answer(PermissionDenied("nothing here asked for it"), Nowhere());
      waiting.handle->CloseAfterSend(kMuxResumeLimit);
    }
  }
}

}  // namespace tunnel::net
