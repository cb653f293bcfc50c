#include "net/client_channel.h"

#include <algorithm>

#include "core/log.h"
#include "ech/config_list.h"
#include "net/client_upgrade.h"
#include "net/connect_race.h"
#include "net/limits.h"
#include "proto/websocket_handshake.h"

namespace tunnel::net {
namespace {

using core::CurrentTask;
using core::DeadlineGuard;
using core::Duration;

// The name an observer sees, for the log.
std::string OuterName(const ech::ConfigToUse& config) {
  const auto parsed = ech::ParseConfigList(config.list);
  return parsed.ok() ? parsed->usable.front().public_name : std::string("unknown");
}

}  // namespace

core::Task<void> ClientChannel::Keep() {
  Duration back_off = kBackOffMin;
  for (;;) {
    const absl::Status dialled = co_await DialInTurn();
    core::TaskContext& context = co_await CurrentTask();
    if (!context.interruption().ok()) break;
    if (dialled.ok()) {
      const core::TimePoint up_since = context_.reactor.now();
      const absl::Status waited = co_await KeepUp();
      if (!waited.ok()) break;
      link_.reset();
      if (context_.reactor.now() - up_since >= kChannelHolds) back_off = kBackOffMin;
    }
    // Full jitter, so that clients that lost a server together do not come back together.
    const Duration delay = context_.reactor.RandomBelow(back_off);
    if (!dialled.ok()) {
      spdlog::warn("channel {}: dial failed: {}; next attempt in {} ms", number_, MessageOf(dialled),
                   core::ToMilliseconds(delay));
    }
    back_off = std::min(back_off * 2, kBackOffMax);
    const absl::Status paused = co_await Pause(delay);
    if (!paused.ok()) break;
  }
  // Cancelled while it was up, it goes without a word.
  if (link_ != nullptr) retired_.push_back(std::move(link_));
  for (const std::unique_ptr<Link>& link : retired_) {
    if (!link->up) continue;
    context_.reactor.counters().channels_up.Add(-1);
    context_.reactor.counters().channels_lost.Add();
  }
  retired_.clear();
}

core::Task<absl::Status> ClientChannel::Pause(Duration delay) {
  core::TaskContext& context = co_await CurrentTask();
  const core::TimePoint until = context_.reactor.now() + delay;
  {
    const DeadlineGuard limit(context, delay);
    (void)co_await context_.stranded.Wait();
  }
  if (!context.interruption().ok()) co_return context.interruption();
  const core::TimePoint now = context_.reactor.now();
  if (now >= until) co_return absl::OkStatus();
  core::Sleep rest(std::min(until - now, context_.reactor.RandomBelow(kBackOffStranded)));
  const absl::Status slept = co_await rest;
  co_return slept;
}

core::Task<absl::Status> ClientChannel::KeepUp() {
  core::TaskContext& context = co_await CurrentTask();
  bool failed = false;
  for (;;) {
    {
      // Jittered, so that channels that came up together are not replaced together.
      std::optional<DeadlineGuard> age;
      if (link_->mux != nullptr) {
        age.emplace(context, failed ? kReplaceAgain : kChannelAge - context_.reactor.RandomBelow(kChannelAge / 4));
      }
      (void)co_await link_->changed.Wait();
    }
    if (!context.interruption().ok()) co_return context.interruption();
    if (!link_->up) co_return absl::OkStatus();
    link_->changed.Reset();
    const absl::Status replaced = co_await Replace();
    if (!context.interruption().ok()) co_return context.interruption();
    if (!link_->up) co_return absl::OkStatus();
    failed = !replaced.ok();
    if (failed) spdlog::info("channel {}: not replaced: {}; it goes on", number_, MessageOf(replaced));
  }
}

core::Task<absl::Status> ClientChannel::Replace() {
  // The new one first, so that there is one to move to.
  const absl::Status dialled = co_await DialInTurn();
  if (!dialled.ok()) co_return dialled;
  spdlog::info("channel {}: replaced", number_);
  const Link& old = *retired_.back();
  if (old.up) {
    old.session->MoveAway(*old.mux);
    old.mux->GoAway(proto::MuxGoAwayCode::kRetired, "replaced");
    old.mux->CloseWhenLeft();
  }
  co_return absl::OkStatus();
}

void ClientChannel::Renew() {
  if (up() && link_->mux != nullptr) link_->changed.Set();
}

core::Task<absl::Status> ClientChannel::DialInTurn() {
  core::TaskContext& context = co_await CurrentTask();
  {
    const DeadlineGuard patience(context, kDialPatience + context_.reactor.RandomBelow(kDialPatience));
    while (context_.dialling && context.interruption().ok()) {
      context_.dial_done.Reset();
      (void)co_await context_.dial_done.Wait();
    }
  }
  if (!context.interruption().ok()) co_return context.interruption();
  context_.dialling = true;
  absl::Status result;
  {
    const DeadlineGuard deadline(context, kDialLimit);
    auto dialled = co_await Dial();
    result = dialled.status();
    if (dialled.ok()) {
      std::erase_if(retired_, [](const auto& link) { return !link->up; });
      if (retired_.size() >= kRetiredLinks) retired_.front()->socket->Close(proto::kCloseNormal, "replaced long ago");
      if (link_ != nullptr) retired_.push_back(std::move(link_));
      link_ = *std::move(dialled);
      // Meanwhile there may have come another session.
      if (link_->mux != nullptr && link_->session != context_.session) Renew();
      context_.changed();
    }
  }
  core::Sleep spacing(context_.reactor.RandomBelow(kDialSpacing));
  const absl::Status slept = co_await spacing;
  context_.dialling = false;
  context_.dial_done.Set();
  co_return result;
}

core::Task<absl::StatusOr<std::unique_ptr<ClientChannel::Link>>> ClientChannel::Dial() {
  auto route = co_await context_.directory.Route();
  if (!route.ok()) co_return route.status();
  if (only_address_.has_value()) {
    const core::SocketAddress wanted = *only_address_;
    std::erase_if(route->addresses, [&](const core::SocketAddress& address) {
      return address.ip() != wanted.ip() || address.unix_path() != wanted.unix_path();
    });
  }
  std::optional<ech::ConfigToUse> config = route->ech;
  for (;;) {
    last_failure_ = {};
    // Each attempt asks anew: what was sent as early data may be with somebody who keeps it.
    std::array<uint8_t, 16> random{};
    context_.reactor.FillRandom(random);
    std::string key = proto::MakeWebSocketKey(random);
    MuxClientSession& session = *context_.session;
    auto request = UpgradeRequest(context_.config, key, session.id());
    if (!request.ok()) co_return request.status();
    auto stream = co_await ConnectTls(route->addresses, config, *std::move(request));
    if (stream.ok()) {
      const TlsEngine& engine = (*stream)->engine();
      std::string ech = config.has_value() ? fmt::format("ECH accepted, outer name {}", OuterName(*config))
                                           : "WITHOUT ECH (-fallback)";
      if (engine.resumed()) ech += engine.early_data_accepted() ? ", resumed, 0-RTT" : ", resumed";
      // The deadline of the dial covers the upgrade.
      std::string description = fmt::format("{}, TLSv1.3, {}", (*stream)->peer(), ech);
      spdlog::debug("tls: {}, {}, {}", ech, (*stream)->peer(), engine.Describe());
      if (config.has_value()) context_.reactor.counters().ech_accepted.Add();
      auto upgraded = co_await Upgrade(*std::move(stream), std::move(key), session, std::move(description));
      co_return std::move(upgraded);
    }
    if (last_failure_.kind != TlsFailureKind::kEchRejected || !config.has_value()) {
      context_.directory.OnDialFailed();
      co_return stream.status();
    }
    context_.reactor.counters().ech_rejected.Add();
    const ech::Rejection rejection = context_.directory.OnRejected(*config, last_failure_.retry_configs);
    switch (rejection.action) {
      case ech::RejectionAction::kRetryOnceWithRetryConfigs:
        spdlog::info("channel {}: ECH rejected, trying once more with the server's retry configs", number_);
        config = rejection.retry;
        continue;
      case ech::RejectionAction::kEchDisabledByServer:
        co_return Annotate(stream.status(),
                           "the server says that it has no ECH any more; have its operator start it with its ECH keys, "
                           "or accept an open name with -fallback");
      case ech::RejectionAction::kBackOff:
        co_return stream.status();
    }
  }
}

core::Task<absl::StatusOr<std::unique_ptr<TlsStream>>> ClientChannel::ConnectTls(
    std::vector<core::SocketAddress> addresses, std::optional<ech::ConfigToUse> config, std::string first_flight) {
  if (addresses.empty()) co_return Unavailable("no address to dial");
  auto socket = co_await ConnectRace(context_.reactor, std::move(addresses), ConnectRaceOptions{});
  if (!socket.ok()) co_return socket.status();
  TlsClientHandshake handshake;
  handshake.host = context_.config.server_host;
  handshake.first_flight = std::move(first_flight);
  if (config.has_value()) handshake.ech_config_list = config->list;
  auto engine = TlsEngine::Client(context_.tls, handshake);
  if (!engine.ok()) co_return engine.status();
  auto stream = std::make_unique<TlsStream>(context_.reactor, *std::move(socket), *std::move(engine));
  absl::Status shaken = co_await stream->Handshake();
  if (!shaken.ok()) {
    last_failure_ = stream->engine().failure();
    context_.reactor.counters().handshakes_failed.Add();
    const std::string peer = stream->peer();
    stream->CloseAfterSend(kCloseLimit);  // the alert
    co_return Annotate(shaken, "TLS with {}", peer);
  }
  // Belt and braces: the engine fails a handshake in which ECH was offered and not accepted.
  if (config.has_value() && !stream->engine().ech_accepted()) co_return Internal("ECH was offered and not accepted");
  co_return std::move(stream);
}

core::Task<absl::StatusOr<std::unique_ptr<ClientChannel::Link>>> ClientChannel::Upgrade(
    std::unique_ptr<TlsStream> stream, std::string key, MuxClientSession& session, std::string description) {
  const Config& config = context_.config;
  core::Reactor& reactor = context_.reactor;
  const bool offered = config.protocol != Protocol::kLegacy;
  UpgradeAnswer upgraded = co_await ReadUpgradeAnswer(*stream, config, std::move(key));
  if (!upgraded.status.ok()) co_return Annotate(upgraded.status, "upgrade at {}", stream->peer());
  const std::optional<proto::MuxAnswer>& answer = upgraded.mux;
  if (!answer.has_value() && config.protocol == Protocol::kNative) {
    co_return Unavailable("{} does not speak mux/2, and -proto native asks for it", stream->peer());
  }
  core::Slice rest = upgraded.rest.empty() ? core::Slice() : reactor.buffers().Copy(upgraded.rest);
  auto link = std::make_unique<Link>(std::make_unique<WebSocket>(
      reactor, std::move(stream), WebSocket::Options{.role = proto::Role::kClient, .keep_alive = !answer.has_value()}));
  const auto down = [this, &link = *link](const absl::Status& reason) { OnDown(link, reason); };
  link->up = true;
  reactor.counters().channels_up.Add();
  reactor.counters().channels_opened.Add();
  if (answer.has_value()) {
    auto carrier =
        std::make_unique<MuxChannel>(reactor, *link->socket, session,
                                     MuxChannel::Options{.epoch = answer->epoch, .peer_window = answer->window}, down);
    link->mux = carrier.get();
    link->session = &session;
    link->carrier = std::move(carrier);
  } else {
    auto carrier = std::make_unique<LegacyClient>(reactor, *link->socket, number_, down);
    link->legacy = carrier.get();
    link->carrier = std::move(carrier);
    if (offered && !std::exchange(context_.legacy_said, true)) {
      spdlog::warn("the server does not speak mux/2: a channel that is lost takes its connections with it");
    }
  }
  spdlog::info("channel {} up: {}, {}", number_, description, link->carrier->protocol());
  if (link->mux != nullptr) link->mux->Start();
  link->socket->Start(link->carrier.get(), std::move(rest));
  co_return std::move(link);
}

void ClientChannel::OnDown(Link& link, const absl::Status& reason) {
  link.up = false;
  context_.reactor.counters().channels_up.Add(-1);
  context_.reactor.counters().channels_lost.Add();
  spdlog::info("channel {} down: {}", number_, MessageOf(reason));
  // Destroyed by Keep(), not from inside its own callback.
  link.changed.Set();
  context_.changed();
}

void ClientChannel::Close() {
  for (const std::unique_ptr<Link>& link : retired_) {
    if (link->up) link->socket->Close(proto::kCloseNormal, "client stops");
  }
  if (up()) link_->socket->Close(proto::kCloseNormal, "client stops");
}

}  // namespace tunnel::net
