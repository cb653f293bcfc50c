#include "net/upstream_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/listener.h"
#include "fake_resolver.h"
#include "net/target_connector.h"
#include "net/tcp_stream.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using namespace std::string_literals;
using core::SocketAddress;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGranted = "\5\0\0\1\0\0\0\0\0\0"s;

// A proxy that answers one scripted message after each that it receives.
class ScriptedProxy final : core::StreamSocket::Handler {
 public:
  explicit ScriptedProxy(core::Reactor& reactor) : reactor_(reactor) {
    auto listener = core::Listener::Open(reactor, *SocketAddress::Parse("127.0.0.1", 0), false,
                                         [this](core::StreamSocket socket, const SocketAddress&) {
                                           socket_ = std::move(socket);
                                           socket_.SetHandler(this);
                                         });
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }
  ~ScriptedProxy() { socket_.Close(); }

  [[nodiscard]] uint16_t port() const { return listener_.local_address().port(); }
  void Stop() { listener_.Close(); }

  std::vector<std::string> script;
  std::vector<std::string> received;
  bool closes = false;  // after the script
  bool over = false;

 private:
  void OnReceive(core::Slice data) override {
    received.emplace_back(data.text());
    const size_t number = received.size() - 1;
    if (number < script.size()) {
      socket_.Send(reactor_.buffers().Copy(script[number]));
    } else if (closes) {
      socket_.CloseAfterSend(std::chrono::seconds(1));
    }
  }
  void OnReceiveEnd() override { over = true; }
  void OnSendDrained() override {}
  void OnSocketError(core::IoError) override { over = true; }

  core::Reactor& reactor_;
  core::Listener listener_;
  core::StreamSocket socket_;
};

class Received final : public ByteStream::Handler {
 public:
  void OnData(core::Slice data) override { text += data.text(); }
  void OnEnd() override {}
  void OnDrained() override {}
  void OnDead(absl::Status) override {}
  std::string text;
};

class UpstreamProxyTest : public testing::Test {
 protected:
  UpstreamProxyTest() {
    resolver_.names["proxy.test"] = {"127.0.0.1"};
    spec_.address = {.host = "proxy.test", .port = peer_.port()};
    spec_.description = "socks5://proxy.test:1080";
  }
  absl::StatusOr<std::unique_ptr<ByteStream>> Connect(std::string host, uint16_t port) {
    return RunTask(*reactor_, proxy_.Connect({.host = std::move(host), .port = port}));
  }
  [[nodiscard]] int64_t failures() const { return reactor_->counters().outbound_proxy_failures.Get(); }

  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  ScriptedProxy peer_{*reactor_};
  FakeResolver resolver_;
  OutboundProxy spec_;
  UpstreamProxy proxy_{*reactor_, resolver_, spec_};
};

TEST_F(UpstreamProxyTest, ConnectsByName) {
  peer_.script = {"\5\0"s, kGranted};
  const auto stream = Connect("target.test", 443);
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_THAT(peer_.received, ElementsAre("\5\1\0"s, "\5\1\0\3\xbtarget.test\1\xbb"s));
  EXPECT_THAT(resolver_.questions, ElementsAre("proxy.test"));
  EXPECT_EQ(failures(), 0);
}

TEST_F(UpstreamProxyTest, KeepsWhatTheTargetSaidBehindTheReply) {
  peer_.script = {"\5\0"s, kGranted + "SSH-2.0-target\r\n"};
  const auto stream = Connect("192.0.2.1", 22);
  ASSERT_TRUE(stream.ok()) << stream.status();
  Received received;
  (*stream)->SetHandler(&received);
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return received.text == "SSH-2.0-target\r\n"; })) << received.text;
  (*stream)->Send(reactor_->buffers().Copy("hello"s));
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return peer_.received.size() == 3; }));
  EXPECT_EQ(peer_.received[2], "hello");
  (*stream)->SetHandler(nullptr);
}

TEST_F(UpstreamProxyTest, SendsUserAndPassword) {
  spec_.credentials = proto::Credentials{.user = "me", .password = "pass"};
  peer_.script = {"\5\2"s, "\1\0"s, kGranted};
  ASSERT_TRUE(Connect("target.test", 443).ok());
  EXPECT_EQ(peer_.received[1], "\1\2me\4pass");
}

TEST_F(UpstreamProxyTest, ARefusalIsTheTargets) {
  peer_.script = {"\5\0"s, "\5\5\0\1\0\0\0\0\0\0"s};
  const auto stream = Connect("target.test", 443);
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MessageOf(stream.status()), "socks5://proxy.test:1080: the proxy says: connection refused");
  EXPECT_EQ(failures(), 0);
}

TEST_F(UpstreamProxyTest, AProxyThatCannotBeUsedIsCounted) {
  peer_.script = {"HTTP/1.1 400 Bad Request\r\n\r\n"};
  EXPECT_EQ(Connect("target.test", 443).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(failures(), 1);
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return peer_.over; })) << "the connection is given up";
  peer_.received.clear();
  peer_.script = {};
  peer_.closes = true;
  const auto closed = Connect("target.test", 443);
  EXPECT_EQ(closed.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(closed.status())), HasSubstr("closed the connection"));
  EXPECT_EQ(failures(), 2);
  peer_.Stop();
  const auto refused = Connect("target.test", 443);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(failures(), 3);
}

TEST_F(UpstreamProxyTest, NeverHandsOnWhatIsNoHost) {
  for (const char* const host : {"", "a b", "unix:/run/x", "127.1", "2130706433"}) {
    EXPECT_EQ(Connect(host, 80).status().code(), absl::StatusCode::kInvalidArgument) << host;
  }
  EXPECT_EQ(Connect("target.test", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(peer_.received.empty());
}

TEST_F(UpstreamProxyTest, AssociatesForDatagrams) {
  peer_.script = {"\5\0"s, "\5\0\0\1\xc0\0\2\1\x12\x34"s};
  auto association = RunTask(*reactor_, proxy_.Associate());
  ASSERT_TRUE(association.ok()) << association.status();
  EXPECT_EQ(association->relay.ToString(), "192.0.2.1:4660");
  EXPECT_EQ(peer_.received[1], "\5\3\0\1\0\0\0\0\0\0"s);
}

TEST_F(UpstreamProxyTest, ARelayOfZerosIsTheProxyItself) {
  peer_.script = {"\5\0"s, "\5\0\0\4"s + std::string(16, '\0') + "\0\x35"s};
  auto association = RunTask(*reactor_, proxy_.Associate());
  ASSERT_TRUE(association.ok()) << association.status();
  EXPECT_EQ(association->relay.ToString(), "127.0.0.1:53");
}

TEST_F(UpstreamProxyTest, ARelayWithoutAPortIsNone) {
  peer_.script = {"\5\0"s, kGranted};
  EXPECT_EQ(RunTask(*reactor_, proxy_.Associate()).status().code(), absl::StatusCode::kDataLoss);
}

// --- through the connector: its limit, its policy ---

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Within(core::Duration limit, TargetConnector* connector,
                                                               proto::Target target) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, limit);
  auto connect = connector->Connect(std::move(target));
  co_return co_await std::move(connect);
}

TEST_F(UpstreamProxyTest, AProxyThatHangsIsGivenUp) {
  const TargetPolicy policy({}, {});
  TargetConnector connector(*reactor_, resolver_, policy, &proxy_);
  const auto stream =
      RunTask(*reactor_, Within(std::chrono::milliseconds(50), &connector, {.host = "target.test", .port = 443}));
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failures(), 1);
  EXPECT_EQ(reactor_->counters().connects_in_progress.Get(), 0);
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return peer_.over; })) << "the connection is given up";
}

TEST_F(UpstreamProxyTest, ThePolicyIsAskedFirst) {
  TargetRule name{.kind = TargetRule::Kind::kName, .name = "secret.test"};
  const TargetPolicy policy({}, {name});
  TargetConnector connector(*reactor_, resolver_, policy, &proxy_);
  for (const char* const host : {"secret.test", "SECRET.test.", "127.0.0.1", "::1", "169.254.169.254",
                                 "::ffff:127.0.0.1", "localhost", "a.LOCALHOST."}) {
    const auto stream = RunTask(*reactor_, connector.Connect({.host = host, .port = 443}));
    EXPECT_EQ(stream.status().code(), absl::StatusCode::kPermissionDenied) << host;
  }
  EXPECT_EQ(reactor_->counters().targets_denied.Get(), 8);
  EXPECT_TRUE(peer_.received.empty());
}

}  // namespace
}  // namespace tunnel::net
