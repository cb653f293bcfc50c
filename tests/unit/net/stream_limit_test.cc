// The bound on a channel's streams, and what a server answers to one too many.
#include <gtest/gtest.h>

#include <vector>

#include "memory_stream.h"
#include "net/legacy_carrier.h"
#include "net/limits.h"
#include "net/web_socket.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

// A channel whose messages nobody reads.
class Channel final : public LegacyCarrier {
 public:
  Channel(core::Reactor& reactor, WebSocket& socket)
      : LegacyCarrier(reactor, socket, proto::Role::kServer, [](const absl::Status&) {}) {}
  using LegacyCarrier::MakeStream;

 private:
  void OnHead(const proto::LegacyHead&) override {}
  void OnPayload(core::Slice) override {}
  void OnMessageComplete() override {}
  void OnMalformed(const proto::LegacyHead&) override {}
  void OnUnknownStream(const proto::LegacyHead&) override {}
  void OnChannelDown(const absl::Status&) override {}
};

proto::ConnectionId IdOf(size_t number) { return *proto::ConnectionId::Parse(fmt::format("{:036}", number)); }

TEST(StreamLimit, AChannelCarriesSoManyAndNoMore) {
  const auto reactor = MakeTestReactor();
  auto [near, far] = MemoryStream::Pair(*reactor);
  WebSocket socket(*reactor, std::move(near), WebSocket::Options{.role = proto::Role::kServer});
  Channel channel(*reactor, socket);
  socket.Start(&channel, core::Slice());
  std::vector<std::unique_ptr<LegacyStream>> streams;
  for (size_t i = 0; i < kStreamsPerChannel; ++i) {
    streams.push_back(channel.MakeStream(IdOf(i)));
    ASSERT_NE(streams.back(), nullptr);
  }
  EXPECT_EQ(channel.MakeStream(IdOf(kStreamsPerChannel)), nullptr);
  EXPECT_EQ(channel.streams(), kStreamsPerChannel);
  EXPECT_EQ(reactor->counters().streams_open.Get(), static_cast<int64_t>(kStreamsPerChannel));
  streams.pop_back();
  EXPECT_NE(channel.MakeStream(IdOf(kStreamsPerChannel)), nullptr);
}

}  // namespace
}  // namespace tunnel::net
