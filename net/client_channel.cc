#include "net/client_channel.h"

#include <algorithm>

#include "core/log.h"
#include "ech/config_list.h"
#include "net/byte_reader.h"
#include "net/connect_race.h"
#include "net/http_reader.h"
#include "net/limits.h"
#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "proto/url.h"
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
      const absl::Status waited = co_await down_.Wait();
      if (!waited.ok()) break;
      carrier_.reset();
      socket_.reset();
      if (context_.reactor.now() - up_since >= kChannelHolds) back_off = kBackOffMin;
    }
    // Full jitter, so that clients that lost a server together do not come back together.
    const Duration delay = context_.reactor.RandomBelow(back_off);
    if (!dialled.ok()) {
      spdlog::warn("channel {}: dial failed: {}; next attempt in {} ms", number_, MessageOf(dialled),
                   core::ToMilliseconds(delay));
    }
    back_off = std::min(back_off * 2, kBackOffMax);
    core::Sleep pause(delay);
    const absl::Status slept = co_await pause;
    if (!slept.ok()) break;
  }
  // Cancelled while it was up, it goes without a word.
  if (carrier_ != nullptr && carrier_->up()) {
    context_.reactor.counters().channels_up.Add(-1);
    context_.reactor.counters().channels_lost.Add();
  }
  carrier_.reset();
  socket_.reset();
}

core::Task<absl::Status> ClientChannel::DialInTurn() {
  while (context_.dialling) {
    context_.dial_done.Reset();
    const absl::Status waited = co_await context_.dial_done.Wait();
    if (!waited.ok()) co_return waited;
  }
  context_.dialling = true;
  absl::Status dialled;
  {
    core::TaskContext& context = co_await CurrentTask();
    const DeadlineGuard deadline(context, kDialLimit);
    dialled = co_await Dial();
  }
  core::Sleep spacing(context_.reactor.RandomBelow(kDialSpacing));
  const absl::Status slept = co_await spacing;
  context_.dialling = false;
  context_.dial_done.Set();
  co_return dialled;
}

core::Task<absl::Status> ClientChannel::Dial() {
  auto route = co_await context_.directory.Route();
  if (!route.ok()) co_return route.status();
  if (only_address_.has_value()) {
    const core::SocketAddress wanted = *only_address_;
    std::erase_if(route->addresses, [&](const core::SocketAddress& address) {
      return address.ip() != wanted.ip() || address.unix_path() != wanted.unix_path();
    });
  }
  std::optional<ech::ConfigToUse> config = route->ech;
  bool retried = false;
  for (;;) {
    last_failure_ = {};
    auto stream = co_await ConnectTls(route->addresses, config);
    if (stream.ok()) {
      const TlsEngine& engine = (*stream)->engine();
      const std::string ech = config.has_value() ? fmt::format("ECH accepted, outer name {}", OuterName(*config))
                                                 : "WITHOUT ECH (-fallback)";
      // The deadline of the dial covers the upgrade.
      std::string description = fmt::format("{}, TLSv1.3, {}", (*stream)->peer(), ech);
      spdlog::debug("tls: {}, {}, {}", ech, (*stream)->peer(), engine.Describe());
      if (config.has_value()) context_.reactor.counters().ech_accepted.Add();
      const absl::Status upgraded = co_await Upgrade(*std::move(stream), std::move(description));
      co_return upgraded;
    }
    if (last_failure_.kind != TlsFailureKind::kEchRejected || !config.has_value()) {
      context_.directory.ForgetAddresses();
      co_return stream.status();
    }
    context_.reactor.counters().ech_rejected.Add();
    const ech::Rejection rejection = context_.directory.OnRejected(*config, last_failure_.retry_configs);
    switch (rejection.action) {
      case ech::RejectionAction::kRetryOnceWithRetryConfigs:
        if (retried) co_return stream.status();
        retried = true;
        spdlog::info("channel {}: ECH rejected, trying once more with the server's retry configs", number_);
        config = rejection.retry;
        continue;
      case ech::RejectionAction::kEchDisabledByServer:
        co_return Annotate(stream.status(),
                           "the server says that it has no ECH any more; ask its operator, or accept "
                           "an open name with -fallback");
      case ech::RejectionAction::kRefreshFromDns:
      case ech::RejectionAction::kBackOff:
        co_return stream.status();
    }
  }
}

core::Task<absl::StatusOr<std::unique_ptr<TlsStream>>> ClientChannel::ConnectTls(
    std::vector<core::SocketAddress> addresses, std::optional<ech::ConfigToUse> config) {
  if (addresses.empty()) co_return Unavailable("no address to dial");
  auto socket = co_await ConnectRace(context_.reactor, std::move(addresses), ConnectRaceOptions{});
  if (!socket.ok()) co_return socket.status();
  TlsClientHandshake handshake;
  handshake.host = context_.config.server_host;
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

core::Task<absl::Status> ClientChannel::Upgrade(std::unique_ptr<TlsStream> stream, std::string description) {
  const Config& config = context_.config;
  core::Reactor& reactor = context_.reactor;
  std::array<uint8_t, 16> random{};
  reactor.FillRandom(random);
  const std::string key = proto::MakeWebSocketKey(random);
  auto builder = proto::HttpHeadBuilder::Request("GET", config.server_path);
  builder.Add("Host", proto::HttpsAuthority(config.server_host, config.server_port))
      .Add("Upgrade", "websocket")
      .Add("Connection", "Upgrade")
      .Add("Sec-WebSocket-Key", key)
      .Add("Sec-WebSocket-Version", "13");
  if (!config.token.empty()) builder.Add("Sec-WebSocket-Protocol", config.token);
  auto request = builder.Finish();
  if (!request.ok()) co_return request.status();
  core::Slice rest;
  {
    ByteReader reader(*stream);
    stream->Send(reactor.buffers().Copy(*request));
    HttpReader http(reader);
    proto::ResponseHead response;
    absl::Status read = co_await http.ReadResponse("GET", response);
    if (!read.ok()) co_return Annotate(read, "upgrade at {}", stream->peer());
    absl::Status accepted = proto::CheckWebSocketAccept(response, proto::WebSocketAcceptFor(key), config.token);
    if (!accepted.ok()) co_return Annotate(accepted, "upgrade at {}", stream->peer());
    const std::string behind = http.TakeRest();
    if (!behind.empty()) rest = reactor.buffers().Copy(behind);
  }
  socket_ = std::make_unique<WebSocket>(reactor, std::move(stream), WebSocket::Options{.role = proto::Role::kClient});
  carrier_ = std::make_unique<LegacyClient>(reactor, *socket_, number_,
                                            [this](const absl::Status& reason) { OnDown(reason); });
  down_.Reset();
  reactor.counters().channels_up.Add();
  reactor.counters().channels_opened.Add();
  spdlog::info("channel {} up: {}, {}", number_, description, carrier_->protocol());
  socket_->Start(carrier_.get(), std::move(rest));
  context_.changed();
  co_return absl::OkStatus();
}

void ClientChannel::OnDown(const absl::Status& reason) {
  context_.reactor.counters().channels_up.Add(-1);
  context_.reactor.counters().channels_lost.Add();
  spdlog::info("channel {} down: {}", number_, MessageOf(reason));
  // Destroyed by Keep(), not from inside its own callback.
  down_.Set();
  context_.changed();
}

void ClientChannel::Close() {
  if (socket_ != nullptr && carrier_ != nullptr && carrier_->up()) socket_->Close(proto::kCloseNormal, "client stops");
}

}  // namespace tunnel::net
