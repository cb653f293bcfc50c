#include "net/socks_negotiation.h"

#include "core/log.h"
#include "net/proxy_credentials.h"
#include "net/proxy_replies.h"

namespace tunnel::net {
namespace {

using core::Slice;
using proto::Socks4Event;
using proto::Socks4Reply;
using proto::Socks5Event;
using proto::Socks5Method;
using proto::Socks5Reply;

void SendBytes(core::Reactor& reactor, ByteStream& stream, std::span<const uint8_t> bytes) {
  stream.Send(reactor.buffers().Copy(bytes));
}

void SendSocks4Reply(core::Reactor& reactor, ByteStream& stream, Socks4Reply reply) {
  SendBytes(reactor, stream, proto::EncodeSocks4Reply(reply));
}

// What of `input` a negotiation did not take.
Slice RestOf(const Slice& input, size_t consumed) {
  return consumed < input.size() ? input.Share(consumed, input.size() - consumed) : Slice();
}

}  // namespace

core::Task<std::optional<SocksRequest>> NegotiateSocks4(core::Reactor& reactor, ByteStream& stream, ByteReader& reader,
                                                        const ListenSpec& spec) {
  proto::Socks4Server server;
  Slice input;
  for (;;) {
    Socks4Event event = server.Next();
    switch (event.kind) {
      case Socks4Event::Kind::kNeedMore: {
        auto data = co_await reader.Read();
        if (!data.ok() || data->empty()) co_return std::nullopt;
        input = *std::move(data);
        server.Feed(input.bytes());
        break;
      }
      case Socks4Event::Kind::kRequest: {
        if (!spec.user.empty()) {
          spdlog::debug("{}: refused SOCKS4 from {}: it cannot carry the password that this listener asks for",
                        spec.description, stream.peer());
          SendSocks4Reply(reactor, stream, Socks4Reply::kUserRejected);
          co_return std::nullopt;
        }
        SocksRequest request;
        request.version = proto::kSocks4Version;
        request.target = std::move(event.target);
        request.first = RestOf(input, server.consumed());
        co_return std::move(request);
      }
      case Socks4Event::Kind::kError:
        spdlog::debug("{}: refused SOCKS4 from {}: {}", spec.description, stream.peer(), event.reason);
        if (event.has_reply) SendSocks4Reply(reactor, stream, event.reply);
        co_return std::nullopt;
      case Socks4Event::Kind::kPaused:
        co_return std::nullopt;
    }
  }
}

core::Task<std::optional<SocksRequest>> NegotiateSocks5(core::Reactor& reactor, ByteStream& stream, ByteReader& reader,
                                                        const ListenSpec& spec) {
  proto::Socks5Server server;
  Slice input;
  for (;;) {
    Socks5Event event = server.Next();
    switch (event.kind) {
      case Socks5Event::Kind::kNeedMore: {
        auto data = co_await reader.Read();
        if (!data.ok() || data->empty()) co_return std::nullopt;
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
        if (!offered) co_return std::nullopt;
        server.SelectMethod(method);
        break;
      }
      case Socks5Event::Kind::kUserPass: {
        const bool matches = MatchesCredentials(spec, event.user, event.password);
        SendBytes(reactor, stream, proto::EncodeSocks5Auth(matches).bytes());
        if (!matches) co_return std::nullopt;
        server.Authenticate(true);
        break;
      }
      case Socks5Event::Kind::kRequest: {
        SocksRequest request;
        request.command = event.command;
        request.target = std::move(event.target);
        request.first = RestOf(input, server.consumed());
        co_return std::move(request);
      }
      case Socks5Event::Kind::kError:
        spdlog::debug("{}: refused SOCKS5 from {}: {}", spec.description, stream.peer(), event.reason);
        if (event.reply.size > 0) SendBytes(reactor, stream, event.reply.bytes());
        co_return std::nullopt;
      case Socks5Event::Kind::kPaused:
        co_return std::nullopt;
    }
  }
}

void SendSocksReply(core::Reactor& reactor, ByteStream& stream, uint8_t version, const absl::Status& outcome) {
  if (version == proto::kSocks4Version) {
    SendSocks4Reply(reactor, stream, outcome.ok() ? Socks4Reply::kGranted : ReplyFor(outcome).socks4);
  } else {
    const Socks5Reply reply = outcome.ok() ? Socks5Reply::kSucceeded : ReplyFor(outcome).socks5;
    SendBytes(reactor, stream, proto::EncodeSocks5Reply(reply).bytes());
  }
}

}  // namespace tunnel::net
