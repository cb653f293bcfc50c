#include "net/client_upgrade.h"

#include <utility>

#include "net/byte_reader.h"
#include "net/http_reader.h"
#include "net/limits.h"
#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "proto/url.h"
#include "proto/websocket_handshake.h"

namespace tunnel::net {
namespace {

// What the answer to an offer of mux/2 chose.
absl::Status JudgeMux(const proto::ResponseHead& response, std::optional<proto::MuxAnswer>& mux) {
  const std::optional<std::string_view> field = response.fields.Find(proto::kMuxHeaderName);
  if (!field.has_value()) return absl::OkStatus();
  if (response.fields.Count(proto::kMuxHeaderName) != 1) return ProtocolError("{} twice", proto::kMuxHeaderName);
  auto parsed = proto::ParseMuxAnswer(*field);
  if (!parsed.ok()) return parsed.status();
  mux = *parsed;
  return absl::OkStatus();
}

core::Task<UpgradeAnswer> Read(ByteStream* stream, const Config* config, std::string key) {
  UpgradeAnswer answer;
  ByteReader reader(*stream);
  HttpReader http(reader);
  proto::ResponseHead response;
  answer.status = co_await http.ReadResponse("GET", response);
  if (!answer.status.ok()) co_return std::move(answer);
  answer.http_status = response.status;
  answer.status = proto::CheckWebSocketAccept(response, proto::WebSocketAcceptFor(key), config->token);
  if (answer.status.ok() && config->protocol != Protocol::kLegacy) answer.status = JudgeMux(response, answer.mux);
  answer.rest = http.TakeRest();
  co_return std::move(answer);
}

}  // namespace

absl::StatusOr<std::string> UpgradeRequest(const Config& config, std::string_view key,
                                           const proto::MuxSessionId& session) {
  auto builder = proto::HttpHeadBuilder::Request("GET", config.server_path);
  builder.Add("Host", proto::HttpsAuthority(config.server_host, config.server_port))
      .Add("Upgrade", "websocket")
      .Add("Connection", "Upgrade")
      .Add("Sec-WebSocket-Key", key)
      .Add("Sec-WebSocket-Version", "13");
  if (!config.token.empty()) builder.Add("Sec-WebSocket-Protocol", config.token);
  if (config.protocol != Protocol::kLegacy) {
    builder.Add(proto::kMuxHeaderName, proto::FormatMuxOffer({.session = session, .window = kMuxFirstWindowBytes}));
  }
  return builder.Finish();
}

core::Task<UpgradeAnswer> ReadUpgradeAnswer(ByteStream& stream, const Config& config, std::string key) {
  return Read(&stream, &config, std::move(key));
}

}  // namespace tunnel::net
