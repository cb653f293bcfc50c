// UDP over a legacy channel, both ends in one process.
#include "net/legacy_datagrams.h"

#include <gtest/gtest.h>

#include "datagram_peers.h"
#include "memory_stream.h"
#include "net/direct_datagrams.h"
#include "net/legacy_server.h"

namespace tunnel::net {
namespace {

using proto::Target;

class LegacyDatagramsTest : public DatagramTest {
 protected:
  LegacyDatagramsTest() { Connect(); }
  ~LegacyDatagramsTest() override {
    association_.reset();
    client_.reset();
    server_.reset();
    End();
  }

  void Connect() {
    auto [near, far] = MemoryStream::Pair(*reactor_);
    client_socket_.emplace(*reactor_, std::move(near), WebSocket::Options{.role = proto::Role::kClient});
    server_socket_.emplace(*reactor_, std::move(far), WebSocket::Options{.role = proto::Role::kServer});
    client_ = std::make_unique<LegacyClient>(*reactor_, *client_socket_, 0, [](const absl::Status&) {});
    server_ = std::make_unique<LegacyServer>(*reactor_, *server_socket_, connector_, way_out_, relays_, scope_,
                                             [](const absl::Status&) {});
    client_socket_->Start(client_.get(), core::Slice());
    server_socket_->Start(server_.get(), core::Slice());
  }
  void Open(core::Duration idle = kAssociationIdleLimit) {
    auto opened = std::make_unique<LegacyDatagrams>(
        *reactor_, [this] { return client_ != nullptr && client_->up() ? client_.get() : nullptr; }, recorder_, idle);
    legacy_ = opened.get();
    association_ = std::move(opened);
  }

  TargetConnector connector_{*reactor_, resolver_, policy_};
  RelaySet relays_{*reactor_};
  DirectDatagrams way_out_{*reactor_, resolver_, policy_, scope_};
  std::optional<WebSocket> client_socket_;
  std::optional<WebSocket> server_socket_;
  std::unique_ptr<LegacyClient> client_;
  std::unique_ptr<LegacyServer> server_;
  LegacyDatagrams* legacy_ = nullptr;  // association_
};

TEST_F(LegacyDatagramsTest, EveryTargetGetsItsOwn) {
  EchoTarget one(*reactor_);
  EchoTarget two(*reactor_);
  Open();
  Send(one.target(), "a");
  Send(two.target(), "");
  Send(one.target(), "b");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 3 && recorder_.targets.size() == 2; }));
  EXPECT_EQ(one.received, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(two.received, (std::vector<std::string>{""}));
  EXPECT_EQ(counters().associations_open.Get(), 2);
  association_.reset();
  EXPECT_TRUE(Until([&] { return counters().associations_open.Get() == 0; }));
}

TEST_F(LegacyDatagramsTest, TheLargestPassesBothWays) {
  EchoTarget echo(*reactor_);
  Open();
  std::string largest(65507 - 5, '\0');
  for (size_t i = 0; i < largest.size(); ++i) largest[i] = static_cast<char>(i * 31 % 251);
  Send(echo.target(), largest);
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  EXPECT_EQ(echo.received[0], largest);
  EXPECT_TRUE(recorder_.received[0].ends_with("echo:" + largest));
}

TEST_F(LegacyDatagramsTest, IdleTargetsAreClosed) {
  EchoTarget echo(*reactor_);
  Open(std::chrono::milliseconds(60));
  Send(echo.target(), "x");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  EXPECT_EQ(legacy_->targets(), 1U);
  ASSERT_TRUE(Until([&] { return legacy_->targets() == 0 && counters().associations_open.Get() == 0; }));
  Send(echo.target(), "y");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
}

TEST_F(LegacyDatagramsTest, TooManyTargetsMakeRoom) {
  EchoTarget echo(*reactor_);
  Open();
  const int64_t bound = kTargetsPerAssociation;
  for (int i = 0; i < 2 * bound; ++i) {
    legacy_->Prepare({.host = fmt::format("127.1.{}.{}", i / 250, 1 + i % 250), .port = 9});
    if (i % 50 == 0) reactor_->Turn(reactor_->backend().Now());
  }
  Send(echo.target(), "x");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1 && counters().associations_open.Get() == bound; }));
  EXPECT_EQ(legacy_->targets(), kTargetsPerAssociation);
}

TEST_F(LegacyDatagramsTest, ARefusalIsToldAndRemembered) {
  Open();
  const Target unknown{.host = "unknown.test", .port = 53};
  for (int i = 0; i < 5; ++i) {
    Send(unknown, "x");
    ASSERT_TRUE(Until([&] { return recorder_.targets.size() == 1; }));
  }
  EXPECT_NE(MessageOf(recorder_.targets[0].second).find("no such name"), std::string::npos);
  EXPECT_EQ(resolver_.questions.size(), 1U);
  EXPECT_EQ(counters().associations_open.Get(), 0);
}

TEST_F(LegacyDatagramsTest, ATargetThatCannotTravelIsDropped) {
  Open();
  Send({.host = "a|b", .port = 53}, "x");
  Send({.host = std::string(256, 'a'), .port = 53}, "x");
  EXPECT_EQ(counters().datagrams_dropped.Get(), 2);
  EXPECT_EQ(legacy_->targets(), 0U);
}

TEST_F(LegacyDatagramsTest, OutlivesItsChannel) {
  EchoTarget echo(*reactor_);
  Open();
  Send(echo.target(), "before");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  client_.reset();
  client_socket_.reset();
  Send(echo.target(), "no channel");
  EXPECT_EQ(counters().datagrams_dropped.Get(), 1);
  ASSERT_TRUE(Until([&] { return counters().associations_open.Get() == 0; }))
      << "the server's end died with the channel";
  server_.reset();
  server_socket_.reset();
  Connect();
  Send(echo.target(), "after");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
  EXPECT_FALSE(recorder_.dead.has_value());
}

}  // namespace
}  // namespace tunnel::net
