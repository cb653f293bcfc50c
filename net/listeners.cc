#include "net/listeners.h"

#include "core/log.h"
#include "net/byte_reader.h"
#include "net/http_reader.h"
#include "net/limits.h"
#include "net/secret.h"
#include "net/tcp_stream.h"
#include "proto/base64.h"
#include "proto/http1_builder.h"
#include "proto/http1_grammar.h"
#include "proto/socks5.h"

namespace tunnel::net {
namespace {

using core::Slice;
using proto::Socks5Event;
using proto::Socks5Method;
using proto::Socks5Reply;
using proto::Target;

// What a negotiation agreed on: where the stream goes, and how the application is told the outcome.
struct Negotiated {
  bool ok = false;
  bool udp = false;  // SOCKS5 UDP ASSOCIATE: the target is where the application will send from
  Target target;
  Slice first;  // bytes of the stream that came behind the request
};

void SendBytes(core::Reactor& reactor, ByteStream& stream, std::span<const uint8_t> bytes) {
  stream.Send(reactor.buffers().Copy(bytes));
}

bool MatchesCredentials(const ListenSpec& spec, std::string_view user, std::string_view password) {
  // Both are always compared, so that the time taken does not tell which one was wrong.
  const bool user_matches = SecretEquals(Secret(spec.user), user);
  const bool password_matches = SecretEquals(Secret(spec.password), password);
  return user_matches && password_matches;
}

Socks5Reply ReplyFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kPermissionDenied:
      return Socks5Reply::kNotAllowed;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kNotFound:
      return Socks5Reply::kHostUnreachable;
    case absl::StatusCode::kDeadlineExceeded:
      return Socks5Reply::kTtlExpired;
    default:
      return Socks5Reply::kGeneralFailure;
  }
}

core::Task<Negotiated> NegotiateSocks5(core::Reactor& reactor, ByteStream& stream, ByteReader& reader,
                                       const ListenSpec& spec) {
  proto::Socks5Server server;
  Slice input;
  Negotiated result;
  for (;;) {
    const Socks5Event event = server.Next();
    switch (event.kind) {
      case Socks5Event::Kind::kNeedMore: {
        auto data = co_await reader.Read();
        if (!data.ok() || data->empty()) co_return std::move(result);
        input = *std::move(data);
        server.Feed(input.bytes());
        break;
      }
      case Socks5Event::Kind::kMethods: {
        const bool wants_password = !spec.user.empty();
        const bool offered = wants_password ? event.offers_user_pass : event.offers_no_auth;
        const Socks5Method method = !offered         ? Socks5Method::kNoAcceptable
                                    : wants_password ? Socks5Method::kUserPass
                                                     : Socks5Method::kNoAuth;
        SendBytes(reactor, stream, proto::EncodeSocks5Method(method).bytes());
        if (!offered) co_return std::move(result);
        server.SelectMethod(method);
        break;
      }
      case Socks5Event::Kind::kUserPass: {
        const bool matches = MatchesCredentials(spec, event.user, event.password);
        SendBytes(reactor, stream, proto::EncodeSocks5Auth(matches).bytes());
        if (!matches) co_return std::move(result);
        server.Authenticate(true);
        break;
      }
      case Socks5Event::Kind::kRequest:
        result.ok = true;
        result.udp = event.command == proto::Socks5Command::kUdpAssociate;
        result.target = event.target;
        if (server.consumed() < input.size()) {
          result.first = input.Share(server.consumed(), input.size() - server.consumed());
        }
        co_return std::move(result);
      case Socks5Event::Kind::kError:
        if (event.reply.size > 0) SendBytes(reactor, stream, event.reply.bytes());
        co_return std::move(result);
      case Socks5Event::Kind::kPaused:
        co_return std::move(result);
    }
  }
}

std::string HttpAnswer(int status, std::string_view reason, std::string_view extra_name = {},
                       std::string_view extra_value = {}) {
  const std::string body = fmt::format("{} {}\n", status, reason);
  auto builder = proto::HttpHeadBuilder::Response(status, reason);
  if (!extra_name.empty()) builder.Add(extra_name, extra_value);
  auto head = builder.Add("Content-Type", "text/plain; charset=utf-8")
                  .Add("Content-Length", std::to_string(body.size()))
                  .Add("Connection", "close")
                  .Finish();
  TUNNEL_CHECK(head.ok());
  return *head + body;
}

std::string HttpAnswerFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kPermissionDenied:
      return HttpAnswer(403, "Forbidden");
    case absl::StatusCode::kDeadlineExceeded:
      return HttpAnswer(504, "Gateway Timeout");
    default:
      return HttpAnswer(502, "Bad Gateway");
  }
}

bool IsAuthorized(const ListenSpec& spec, const proto::RequestHead& head) {
  if (spec.user.empty()) return true;
  constexpr std::string_view kScheme = "Basic ";
  const std::optional<std::string_view> value = head.fields.Find("Proxy-Authorization");
  if (!value.has_value() || head.fields.Count("Proxy-Authorization") != 1 || value->size() < kScheme.size() ||
      !proto::EqualsIgnoreCase(value->substr(0, kScheme.size()), kScheme)) {
    return false;
  }
  const auto decoded = proto::Base64Decode(value->substr(kScheme.size()));
  if (!decoded.has_value()) return false;
  const std::string_view text(reinterpret_cast<const char*>(decoded->data()), decoded->size());
  const size_t colon = text.find(':');
  return colon != std::string_view::npos && MatchesCredentials(spec, text.substr(0, colon), text.substr(colon + 1));
}

core::Task<Negotiated> NegotiateConnect(core::Reactor& reactor, ByteStream& stream, ByteReader& reader,
                                        const ListenSpec& spec) {
  Negotiated result;
  HttpReader http(reader);
  proto::RequestHead head;
  const bool read = co_await http.ReadRequest(head);
  std::string answer;
  if (!read) {
    const RequestError& error = http.error();
    if (error.status == 0) co_return std::move(result);
    answer = HttpAnswer(error.status, error.reason);
  } else if (!IsAuthorized(spec, head)) {
    answer = HttpAnswer(407, "Proxy Authentication Required", "Proxy-Authenticate", "Basic realm=\"proxy\"");
  } else if (head.method != "CONNECT") {
    answer = HttpAnswer(501, "Not Implemented: this proxy forwards with CONNECT and SOCKS5");
  } else if (!head.port.has_value()) {
    answer = HttpAnswer(400, "Bad Request: CONNECT needs host:port");
  } else {
    result.ok = true;
    result.target = {.host = std::string(head.host), .port = *head.port};
    const std::string rest = http.TakeRest();
    if (!rest.empty()) result.first = reactor.buffers().Copy(rest);
  }
  if (!answer.empty()) stream.Send(reactor.buffers().Copy(answer));
  co_return std::move(result);
}

// Counts a connection that is not yet a stream, for as long as this lives.
class NegotiationCount {
 public:
  explicit NegotiationCount(core::Reactor& reactor) : counter_(reactor.counters().handshakes_in_progress) {
    counter_.Add();
  }
  NegotiationCount(const NegotiationCount&) = delete;
  NegotiationCount& operator=(const NegotiationCount&) = delete;
  ~NegotiationCount() { counter_.Add(-1); }

 private:
  core::Counter& counter_;
};

}  // namespace

core::Task<void> ServeForward(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                              StreamOpener& opener, RelaySet& relays) {
  auto stream = std::make_unique<TcpStream>(std::move(socket));
  const NegotiationCount counted(reactor);
  auto opened = co_await opener.Open(spec.target, Slice());
  if (!opened.ok()) {
    spdlog::debug("{}: {}", spec.description, MessageOf(opened.status()));
    stream->Abort();
    co_return;
  }
  relays.Start(*std::move(opened), std::move(stream));
}

core::Task<void> ServeProxy(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                            StreamOpener& opener, RelaySet& relays, UdpAssociateSet& associations) {
  const core::SocketAddress local = socket.local_address();
  const core::SocketAddress peer = socket.peer_address();
  auto stream = std::make_unique<TcpStream>(std::move(socket));
  const NegotiationCount counted(reactor);
  ByteReader reader(*stream);
  bool socks = false;
  Negotiated negotiated;
  {
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kNegotiationLimit);
    auto first = co_await reader.Read();
    if (!first.ok() || first->empty()) {
      reader.Detach();
      stream->CloseAfterSend(kCloseLimit);
      co_return;
    }
    const uint8_t version = first->bytes()[0];
    reader.Unread(*std::move(first));
    socks = version == proto::kSocks5Version;
    if (socks) {
      negotiated = co_await NegotiateSocks5(reactor, *stream, reader, spec);
    } else if (proto::IsTokenChar(static_cast<char>(version))) {
      negotiated = co_await NegotiateConnect(reactor, *stream, reader, spec);
    }
  }
  if (!negotiated.ok) {
    reader.Detach();
    stream->CloseAfterSend(kCloseLimit);
    co_return;
  }
  if (negotiated.udp) {
    if (reader.ended() || !reader.dead().ok()) co_return;
    reader.Detach();
    associations.Start(std::move(stream), local, peer, negotiated.target);
    co_return;
  }
  const std::string name = proto::ToString(negotiated.target);
  auto opened = co_await opener.Open(std::move(negotiated.target), std::move(negotiated.first));
  if (!opened.ok()) {
    spdlog::debug("{}: {}: {}", spec.description, name, MessageOf(opened.status()));
    if (socks) {
      SendBytes(reactor, *stream, proto::EncodeSocks5Reply(ReplyFor(opened.status())).bytes());
    } else {
      stream->Send(reactor.buffers().Copy(HttpAnswerFor(opened.status())));
    }
    reader.Detach();
    stream->CloseAfterSend(kCloseLimit);
    co_return;
  }
  if (socks) {
    SendBytes(reactor, *stream, proto::EncodeSocks5Reply(Socks5Reply::kSucceeded).bytes());
  } else {
    stream->Send(reactor.buffers().Copy(std::string_view("HTTP/1.1 200 Connection established\r\n\r\n")));
  }
  for (Slice& slice : reader.TakeReceived()) (*opened)->Send(std::move(slice));
  if (!reader.dead().ok()) co_return;
  const bool ended = reader.ended();
  reader.Detach();
  if (ended) (*opened)->FinishSend();
  relays.Start(*std::move(opened), std::move(stream), ended);
}

}  // namespace tunnel::net
