#include "net/web_socket_ping.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "net/byte_reader.h"
#include "proto/websocket_decoder.h"
#include "proto/websocket_encoder.h"

namespace tunnel::net {
namespace {

using Event = proto::WebSocketDecoder::Event;
using EventKind = proto::WebSocketDecoder::EventKind;
using PingPayload = std::array<uint8_t, 8>;

// Whether the Pong to `payload` is among what the decoder has; fails when the connection ends in it.
absl::StatusOr<bool> FindPong(proto::WebSocketDecoder& decoder, const PingPayload& payload) {
  bool found = false;
  for (;;) {
    const Event event = decoder.Next();
    switch (event.kind) {
      case EventKind::kNeedMore:
        if (decoder.finished()) return Unavailable("the server closed the channel");
        return found;
      case EventKind::kPong:
        found |= std::ranges::equal(event.payload, payload);
        break;
      case EventKind::kClose:
        return Unavailable("the server closed the channel: {} {}", event.close_code, event.reason);
      case EventKind::kError:
        return ProtocolError("{}", event.reason);
      default:
        break;
    }
  }
}

core::Task<absl::StatusOr<std::vector<core::Duration>>> Ping(core::Reactor* reactor, ByteStream* stream,
                                                             std::string received, int count) {
  proto::WebSocketDecoder decoder({.role = proto::Role::kClient, .check_utf8 = false});
  ByteReader reader(*stream);
  std::array<uint8_t, proto::kMaxControlFrameBytes> frame{};
  proto::MaskKey mask{};
  PingPayload payload{};
  std::vector<core::Duration> times;
  // What came before the first Ping answers none.
  decoder.Feed({reinterpret_cast<uint8_t*>(received.data()), received.size()});
  if (auto early = FindPong(decoder, payload); !early.ok()) co_return early.status();
  while (times.size() < static_cast<size_t>(count)) {
    reactor->FillRandom(payload);
    reactor->FillRandom(mask);
    const size_t size = proto::EncodePing(frame, proto::Role::kClient, payload, mask);
    const core::TimePoint sent = reactor->now();
    stream->Send(reactor->buffers().Copy(std::span<const uint8_t>(frame).first(size)));
    for (bool answered = false; !answered;) {
      auto data = co_await reader.Read();
      if (!data.ok()) co_return data.status();
      if (data->empty()) co_return Unavailable("the server ended the connection");
      decoder.Feed(data->bytes());
      const auto found = FindPong(decoder, payload);
      if (!found.ok()) co_return found.status();
      answered = *found;
    }
    times.push_back(reactor->now() - sent);
  }
  reactor->FillRandom(mask);
  const size_t size = proto::EncodeClose(frame, proto::Role::kClient, proto::kCloseNormal, "checked", mask);
  stream->Send(reactor->buffers().Copy(std::span<const uint8_t>(frame).first(size)));
  co_return std::move(times);
}

}  // namespace

core::Task<absl::StatusOr<std::vector<core::Duration>>> PingWebSocket(core::Reactor& reactor, ByteStream& stream,
                                                                      std::string received, int count) {
  return Ping(&reactor, &stream, std::move(received), count);
}

}  // namespace tunnel::net
