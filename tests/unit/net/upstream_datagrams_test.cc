// Datagrams through a SOCKS5 proxy: both ends of UDP ASSOCIATE in one process.
#include "net/upstream_datagrams.h"

#include <gtest/gtest.h>

#include "core/listener.h"
#include "datagram_peers.h"
#include "net/direct_datagrams.h"
#include "net/proxy_listener.h"

namespace tunnel::net {
namespace {

using proto::Target;

class NoStreams final : public StreamOpener {
 public:
  core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(Target /*target*/, core::Slice /*first*/) override {
    co_return Unavailable("only datagrams here");
  }
};

class UpstreamDatagramsTest : public DatagramTest {
 protected:
  UpstreamDatagramsTest() {
    auto listener = core::Listener::Open(
        *reactor_, *core::SocketAddress::Parse("127.0.0.1", 0), false,
        [this](core::StreamSocket socket, const core::SocketAddress&) {
          ++accepted_;
          scope_.Spawn(ServeProxy(*reactor_, std::move(socket), spec_, streams_, relays_, associations_));
        });
    EXPECT_TRUE(listener.ok());
    listener_ = *std::move(listener);
    outbound_.address = {.host = "127.0.0.1", .port = listener_.local_address().port()};
    outbound_.description = "socks5://127.0.0.1";
    resolver_.names["target.test"] = {"127.0.0.1"};
  }
  ~UpstreamDatagramsTest() override {
    association_.reset();
    associations_.CloseAll();
    listener_.Close();
    End();
  }
  void Open(core::Duration idle = kAssociationIdleLimit) {
    way_.emplace(*reactor_, upstream_, policy_, scope_, idle);
    OpenOn(*way_, SenderFilter::kTargetsOnly);
  }

  // The proxy.
  ListenSpec spec_;
  NoStreams streams_;
  RelaySet relays_{*reactor_};
  DirectDatagrams direct_{*reactor_, resolver_, policy_, scope_};
  UdpAssociateSet associations_{*reactor_, direct_};
  core::Listener listener_;
  int accepted_ = 0;
  // Who goes out through it.
  OutboundProxy outbound_;
  UpstreamProxy upstream_{*reactor_, resolver_, outbound_};
  std::optional<UpstreamDatagrams> way_;
};

TEST_F(UpstreamDatagramsTest, ReachesAddressesAndNamesOverOneAssociation) {
  EchoTarget one(*reactor_);
  EchoTarget two(*reactor_);
  Open();
  Send(one.target(), "a");
  Send({.host = "target.test", .port = two.port}, "b");
  Send(one.target(), "");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 3 && recorder_.targets.size() == 2; }));
  EXPECT_EQ(one.received, (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(two.received, (std::vector<std::string>{"b"}));
  EXPECT_EQ(accepted_, 1);
  EXPECT_TRUE(recorder_.targets[0].second.ok() && recorder_.targets[1].second.ok());
  EXPECT_EQ(counters().datagrams_dropped.Get(), 0);
}

TEST_F(UpstreamDatagramsTest, DeniedTargetsNeverReachTheProxy) {
  policy_ = TargetPolicy({}, {});
  Open();
  Send({.host = "169.254.169.254", .port = 53}, "x");
  Send({.host = "localhost", .port = 53}, "x");
  ASSERT_TRUE(Until([&] { return recorder_.targets.size() == 2; }));
  EXPECT_EQ(recorder_.targets[0].second.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(recorder_.targets[1].second.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(accepted_, 0);
  EXPECT_EQ(counters().datagrams_dropped.Get(), 2);
}

TEST_F(UpstreamDatagramsTest, AProxyThatIsNotThere) {
  listener_.Close();
  Open();
  for (int i = 0; i < 5; ++i) {
    Send({.host = "192.0.2.1", .port = 53}, "x");
    ASSERT_TRUE(Until([&] { return recorder_.targets.size() == 1; }));
  }
  EXPECT_EQ(recorder_.targets[0].second.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(counters().outbound_proxy_failures.Get(), 1) << "not asked again for each datagram";
  EXPECT_EQ(counters().datagrams_dropped.Get(), 5);
}

TEST_F(UpstreamDatagramsTest, ALostAssociationIsMadeAgain) {
  EchoTarget echo(*reactor_);
  Open();
  Send(echo.target(), "one");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  const int64_t open = counters().sockets_open.Get();
  associations_.CloseAll();
  ASSERT_TRUE(Until([&] { return counters().sockets_open.Get() <= open - 4; })) << "both ends of two connections";
  Send(echo.target(), "two");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
  EXPECT_EQ(accepted_, 2);
}

TEST_F(UpstreamDatagramsTest, AnIdleAssociationIsGivenUp) {
  EchoTarget echo(*reactor_);
  Open(std::chrono::milliseconds(60));
  Send(echo.target(), "one");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  EXPECT_EQ(associations_.size(), 1U);
  ASSERT_TRUE(Until([&] { return associations_.size() == 0; }));
  EXPECT_FALSE(recorder_.dead.has_value());
  Send(echo.target(), "two");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
}

TEST_F(UpstreamDatagramsTest, MayBeDestroyedAtAnyTime) {
  EchoTarget echo(*reactor_);
  Open();
  Send(echo.target(), "x");
  association_.reset();
  ASSERT_TRUE(Until([&] { return scope_.empty(); }));
  Open();
  recorder_.on_datagram = [&] { association_.reset(); };
  Send(echo.target(), "x");
  Send(echo.target(), "y");
  ASSERT_TRUE(Until([&] { return association_ == nullptr; }));
  ASSERT_TRUE(Until([&] { return associations_.size() == 0 && counters().associations_open.Get() == 0; }));
}

}  // namespace
}  // namespace tunnel::net
